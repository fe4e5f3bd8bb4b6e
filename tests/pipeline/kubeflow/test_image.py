"""The Dockerfile, as far as it can be read: its stages, who runs in it, and that its versions are the lock's."""

import re
import subprocess
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[3]
LOCK = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
SETUP = (ROOT / "pipeline" / "set_up.sh").read_text()


@pytest.fixture(scope="module")
def steps():
    """Stage -> its instructions; the default one, the last, is `default`."""
    found, stage = {}, ""
    for step in DockerfileParser(str(ROOT / "Dockerfile")).structure:
        if step["instruction"] == "FROM":
            _, _, name = step["value"].partition(" AS ")
            stage = name or "default"
            found[stage] = [("FROM", step["value"].split(" AS ")[0])]
        elif stage:
            found[stage].append((step["instruction"], step["value"]))
    return found


def told(steps, stage, instruction):
    return [value for name, value in steps[stage] if name == instruction]


def test_nobody_is_root_in_an_image_that_runs(steps):
    assert told(steps, "cpu", "USER") == ["1000"] and told(steps, "gpu", "USER")[-1] == "1000"
    assert steps["default"] == [("FROM", "cpu")]


def test_versions_are_those_of_the_lock_and_of_the_set_up():
    text = (ROOT / "Dockerfile").read_text()
    assert f"ARG BEAM={LOCK['apache-beam']}" in text
    assert re.search(r"ARG PYTHON=3\.10\.\d+", text)
    assert f"uv=={re.search('UV_VERSION := (.+)', (ROOT / 'Makefile').read_text())[1]}" in text
    assert text.count("--require-hashes") == 2 and "--require-hashes" in SETUP


def test_gpu_packages_do_not_meet_the_others():
    gpu = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / "requirements-gpu.lock").read_text(), re.MULTILINE))
    assert gpu and all(name.startswith("nvidia-") for name in gpu) and not set(gpu) & set(LOCK)


def test_all_that_is_copied_is_there_and_sent_to_the_build(steps):
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in steps:
        for value in told(steps, stage, "COPY"):
            if "--from" not in value:
                sources = [part for part in value.split()[:-1] if not part.startswith("--")]
                for source in sources:
                    assert (ROOT / source).exists() and source.split("/")[0] in sent, source


def test_what_is_taken_out_again_was_locked_for_tests_only(steps):
    (removed,) = re.findall(r"uv pip uninstall --python \S+ +(.+?)$", " ".join(told(steps, "build", "RUN")[1].split()))
    setup = (ROOT / "setup.py").read_text()
    runtime = setup[: setup.index("DEV = ")]
    for package in removed.split():
        assert package in LOCK and f'"{package}' not in runtime


def test_commands_are_run_and_flags_are_beam_s(tmp_path):
    script = ROOT / "pipeline" / "kubeflow" / "entrypoint.sh"
    assert subprocess.run([script, "echo", "hello"], capture_output=True, text=True).stdout == "hello\n"
    boot = tmp_path / "boot"
    boot.write_text("#!/bin/sh\necho boot $1\n")
    boot.chmod(0o755)
    own = tmp_path / "entrypoint.sh"
    own.write_text(script.read_text().replace("/opt/apache/beam/boot", str(boot)))
    own.chmod(0o755)
    assert subprocess.run([own, "--id=1-1"], capture_output=True, text=True).stdout == "boot --id=1-1\n"
