"""The same pipeline over Beam's job API: artifacts equal the DirectRunner's.

Flink's and Spark's job servers and Beam's own local one speak that API. The Flink server is one jar from Maven Central;
its test is skipped, with the reason, where the jar cannot be had.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.beam_runners import beam_args
from pipeline.config import load_config
from pipeline.local_runner import run_locally
from schema.errors import InputError
from tests.comparing import assert_same_artifacts
from tests.conftest import SETTINGS

FLINK = "org.apache.beam:beam-runners-flink-1.19-job-server:2.65.0"
JAR_VARIABLE = "HOMEFEED_FLINK_JOB_SERVER_JAR"


def args(*assignments: str) -> list[str]:
    return beam_args(load_config(None, assignments).beam)


def test_one_worker_is_in_memory_and_several_are_processes():
    assert "--direct_running_mode=in_memory" in args()
    several = args("beam.workers=4")
    assert {"--direct_running_mode=multi_processing", "--direct_num_workers=4"} <= set(several)


@pytest.mark.parametrize("runner", ["flink", "spark"])
def test_flink_and_spark_are_reached_over_their_job_server(runner):
    made = args(
        f"beam.runner={runner}", "beam.job_endpoint=jobs:8099", "beam.workers=8", "beam.args=[--flink_version=1.19]"
    )
    assert {"--runner=PortableRunner", "--job_endpoint=jobs:8099", "--parallelism=8", "--flink_version=1.19"} <= set(
        made
    )
    assert "--environment_type=LOOPBACK" in made
    made = args(f"beam.runner={runner}", "beam.environment=docker", "beam.environment_config=registry/homefeed:1")
    assert {"--environment_type=DOCKER", "--environment_config=registry/homefeed:1"} <= set(made)


def test_dataflow_needs_its_project_place_and_image():
    keys = ["beam.project=p", "beam.region=r", "beam.temp_location=gs://b/t", "beam.container_image=i"]
    keys.append("beam.shared=gs://b/beam")
    made = args("beam.runner=dataflow", *keys)
    assert {"--runner=DataflowRunner", "--project=p", "--region=r", "--sdk_container_image=i"} <= set(made)
    for missing in range(len(keys)):
        name = keys[missing].split("=")[0]
        with pytest.raises(InputError, match=name):
            args("beam.runner=dataflow", *keys[:missing], *keys[missing + 1 :])
    with pytest.raises(InputError, match=r"/mnt/beam is no gs://"):
        args("beam.runner=dataflow", *keys, "beam.shared=/mnt/beam")
    with pytest.raises(InputError, match=r"beam\.environment_config"):
        args("beam.runner=flink", "beam.environment=docker")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[str]:
    """A job server, or workers of it, ended by its own id."""
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            for _ in range(120):
                if process.poll() is not None:
                    pytest.fail(f"the job server ended: {log.read_text()[-2000:]}")
                with socket.socket() as probe:
                    if probe.connect_ex(("localhost", port)) == 0:
                        break
                time.sleep(0.5)
            yield f"localhost:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def flink_jar() -> Path:
    """The job server's jar: one that is given, or Maven Central's. Skips where neither can be had."""
    if JAR_VARIABLE in os.environ:
        return Path(os.environ[JAR_VARIABLE])
    group, artifact, version = FLINK.split(":")
    jar = Path.home() / ".m2/repository" / group.replace(".", "/") / artifact / version / f"{artifact}-{version}.jar"
    if not jar.is_file():
        if not (shutil.which("mvn") and shutil.which("java")):
            pytest.skip(f"no java or mvn here to get {FLINK} with; {JAR_VARIABLE} may name the jar")
        got = subprocess.run(
            ["mvn", "-q", "-B", "dependency:get", f"-Dartifact={FLINK}", "-Dtransitive=false"],
            capture_output=True,
            text=True,
            timeout=600,
        )
        if got.returncode:
            why = next((line for line in got.stdout.splitlines() if "ERROR" in line), "mvn failed")
            pytest.skip(f"{FLINK} cannot be had: {why[:300]}; {JAR_VARIABLE} may name the jar")
    return jar


@pytest.fixture(params=["beam's local job service", "flink"])
def job_endpoint(request, tmp_path) -> Iterator[str]:
    port = free_port()
    if request.param == "flink":
        command = ["java", "-jar", str(flink_jar()), f"--job-port={port}", "--artifact-port=0", "--expansion-port=0"]
        command += ["--flink-master=[local]", f"--artifacts-dir={tmp_path / 'staged'}"]
    else:
        command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", "-p", str(port)]
    with serving(command, port, tmp_path / "server.log") as endpoint:
        yield endpoint


@pytest.mark.slow
def test_artifacts_equal_the_direct_runner_s(shop, job_endpoint, tmp_path):
    portable = load_config(None, (*SETTINGS, "beam.runner=flink", f"beam.job_endpoint={job_endpoint}"))
    run_locally(portable, shop.folders, str(tmp_path / "w"), until="Transform")
    assert_same_artifacts(tmp_path / "w", shop.workspace)
