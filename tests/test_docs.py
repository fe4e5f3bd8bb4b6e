"""What the documents tell people to type: every command is one that there is, and those for one's own data are run."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click
import httpx
import pandas as pd
import pytest

from pipeline.cli import homefeed
from tests.conftest import Shop

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "README.zh-CN.md"]
YOUR_DATA = ROOT / "docs" / "your-data.md"


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, list[str]]]:
    found = []
    for document in DOCUMENTS:
        for block in blocks(document, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip():
                    found.append((document.name, shlex.split(line, comments=True)))
    return found


@pytest.mark.parametrize(("document", "words"), commands(), ids=lambda value: value if isinstance(value, str) else None)
def test_every_command_is_one_that_there_is(document: str, words: list[str]):
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "homefeed":
        command: click.Command = homefeed
        context = click.Context(homefeed)
        while isinstance(command, click.Group):
            name, *arguments = arguments
            found = command.get_command(context, name)
            assert found is not None, f"{document}: homefeed has no command {name}"
            command = found
        command.make_context(command.name, arguments)  # raises for an unknown option or a value that it does not take
    elif program == "make":
        subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True)
    elif program in ("python", "python3"):
        if arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1]), f"{document}: there is no module {arguments[1]}"
        else:
            assert arguments[0] == "to_homefeed.py"  # the document's own, see below
    elif program == "docker":
        stages = re.findall(r"^FROM .* AS (\w+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
        target = arguments[arguments.index("--target") + 1] if "--target" in arguments else stages[-1]
        assert arguments[0] == "build" and target in stages
    elif program == "curl":
        assert any("/v1/models/homefeed" in argument for argument in arguments)
    else:
        known = {"git", "kubectl", "tensorflow_model_server", "promtool", "cd"}
        assert program in known, f"{document}: nothing here knows {program}"


def test_every_link_leads_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"


@pytest.mark.slow
def test_your_own_data_in_ten_minutes(shop: Shop, tmp_path: Path):
    """The document's commands, as they stand, on an export with columns of its own."""
    _export(shop, tmp_path / "export")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (tmp_path / "to_homefeed.py").write_text(blocks(YOUR_DATA, "python")[0], encoding="utf-8")
    # A smaller training than the default, so that the test is done sooner.
    more = "model: {epochs: 2, refit: false}\nsplit: {windows: 2}\nserving: {max_latency_ms: 5000}\n"
    thresholds = "evaluation: {thresholds: {recall: {metric: recall, at_least: 0.0}}}\n"
    (tmp_path / "mine.yaml").write_text(blocks(YOUR_DATA, "yaml")[0] + more + thresholds, encoding="utf-8")
    *steps, serve = blocks(YOUR_DATA, "sh")
    # The server ends with its own shell; `python -m` finds homefeed where it is not installed.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for step in steps:
        done = subprocess.run(["bash", "-e", "-c", step], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (step, done.stdout[-2000:], done.stderr[-2000:])
    (report,) = (tmp_path / "w" / "reports").glob("*.html")
    assert "pushed" in report.read_text(encoding="utf-8")
    process = subprocess.Popen(["bash", "-c", f"exec {serve} --port=0 --grpc_socket_path={tmp_path}/s"], cwd=tmp_path)
    try:
        until = time.monotonic() + 180
        while True:
            try:
                about = httpx.get("http://localhost:8501/ui/data/about").json()
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(1)
        assert about["items"] == 300 and about["users"]
    finally:
        process.terminate()
        process.wait(60)


def _export(shop: Shop, folder: Path) -> None:
    folder.mkdir()
    events = pd.concat(map(pd.read_csv, sorted(shop.behaviors.rglob("*.csv"))))
    events = events[events["timestamp"].notna()]
    pd.DataFrame(
        {
            "customer": events["user_id"],
            "sku": events["item_id"],
            "action": events["event"].replace({"view": "pageview", "purchase": "order"}),
            "amount": events["value"],
            "at": pd.to_datetime(events["timestamp"], unit="s", utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    ).to_csv(folder / "events.csv", index=False)
    products = pd.concat(map(pd.read_csv, sorted(shop.catalog.rglob("*.csv"))))
    products = products.rename(
        columns={"item_id": "sku", "title": "name", "description": "about", "category": "group", "price": "eur"}
    )
    products[["sku", "name", "about", "group", "eur"]].to_csv(folder / "products.csv", index=False)
