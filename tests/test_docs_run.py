"""The documents' commands are run, as they stand, in folders like those that they speak of."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from pipeline.config import load_config
from pipeline.local_runner import run_locally
from schema import names
from serving.client import connect
from serving.experiment import EVENT, SHOWN
from serving.releases import STABLE, Releases
from serving.versions import versions_in
from tests.conftest import SETTINGS, Shop
from tests.kubeflow_endpoint import kubeflow_endpoint
from tests.test_docs import ROOT, blocks, commands

RUN = ("README.md", "gates.md", "serving.md", "operations.md")
YOUR_DATA = ROOT / "docs" / "your-data.md"
MODEL = f"http://localhost:8501/v1/models/{names.MODEL_NAME}"
# What begins like this is run by another test, or needs what a test has not.
ELSEWHERE = {
    "make": "`make test` runs the tests; `make demo` is a newcomer's run, of minutes",
    "docker": "needs Docker",
    "python -m apache_beam": "test_beam_runners starts the job service, and runs the pipeline over it",
    "homefeed replay": "test_replay runs the whole pipeline through it",
}
_TRAIN = ("homefeed run", "homefeed reindex", "homefeed watch")  # get the settings of a small training


@dataclass
class Home:
    """The folder in which commands are typed; no more than one server of them runs at a time."""

    folder: Path
    server: subprocess.Popen | None = None

    @property
    def versions(self) -> list[int]:
        return versions_in(self.folder / "w" / "serving" / names.MODEL_NAME)

    def type(self, words: list[str]) -> None:
        """Runs a command as it stands, but for numbers of versions and settings of a training."""
        command = " ".join(words).removeprefix(".venv/bin/")
        if any(command.startswith(start) for start in ELSEWHERE) or "beam.runner=flink" in command:
            return
        own = iter(self.versions[1::-1] if len(re.findall(r"\b\d{10}\b", command)) == 2 else self.versions)
        words = [str(next(own)) if re.fullmatch(r"\d{10}", word) else word for word in words]
        if command.startswith(_TRAIN):
            words += [word for setting in SETTINGS for word in ("--set", setting)]
        program = words[0].removeprefix(".venv/bin/")
        mine = {"homefeed": [sys.executable, "-m", "pipeline.cli"], "python": [sys.executable]}
        words = [*mine.get(program, [program]), *words[1:]]
        if command.startswith("homefeed serve"):
            self._serve(words, command)
        elif command.startswith("homefeed watch"):
            self._watch(words)
        else:
            done = self._start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            out, error = done.communicate(timeout=900)
            assert done.returncode == 0 and out, (command, out[-2000:], error[-2000:])
            if program == "curl":
                assert json.loads(out)["predictions"][0][names.ITEM_IDS]

    def end(self) -> None:
        """Ends the server, if there is one."""
        if self.server is not None:
            self.server.terminate()
            self.server.wait(60)
            self.server = None

    def _start(self, words: list[str], **pipes: int) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(words, cwd=self.folder, env=environment, text=True, **pipes)

    def _serve(self, words: list[str], command: str) -> None:
        self.end()
        self.server = self._start(words)
        _await(lambda: httpx.get(MODEL).raise_for_status(), self.server)
        if "--ui" in command:
            assert httpx.get("http://localhost:8501/ui/").status_code == 200
        if "--request_log_folder" in command:  # a share of the requests is logged
            client = connect("grpc://localhost:8500", names.MODEL_NAME)
            for number in range(1_000):
                client.predict(names.RECOMMEND, {names.USER_ID: [f"U{number % 200:06d}"], names.K: [5]})
            self.end()  # writes what it has

    def _watch(self, words: list[str]) -> None:
        state = self.folder / "w" / "watch.json"
        if state.exists():  # another document has typed the same, and nothing is due since
            return
        watcher = self._start(words)
        _await(state.stat, watcher, seconds=900)
        watcher.send_signal(signal.SIGTERM)
        assert watcher.wait(60) == 0


def _await(look: Callable[[], Any], process: subprocess.Popen, seconds: float = 180) -> Any:
    until = time.monotonic() + seconds
    while True:
        try:
            return look()
        except (OSError, httpx.HTTPError):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.5)


@pytest.fixture(scope="module")
def place(shop_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop, and a workspace with two pushed versions."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "shop").symlink_to(shop_data)
    (folder / "shop.yaml").write_text("kubeflow: {retries: 1}\n", encoding="utf-8")
    folders = {table: str(shop_data / table) for table in (names.BEHAVIORS, names.CATALOG)}
    for start in (names.FRESH, names.REINDEX):
        config = load_config(None, (*SETTINGS, f"model.start={start}"))
        outcome = run_locally(config, folders, str(folder / "w"))
        assert outcome.pushed, outcome.refusals
    (folder / "logs").mkdir()
    lines = []
    for arm in ("stable", "canary"):
        for request in (f"{arm}{number}" for number in range(200)):
            what = {"experiment": "canary-7", "arm": arm, "user": request, "items": ["i"]}
            lines.append({"kind": SHOWN, "request": request, "time": 0, **what})
            lines.append({"kind": EVENT, "request": request, "time": 1, "item": "i", "event": "click", "value": 1})
    (folder / "logs" / "1.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture
def home(place: Path) -> Iterator[Home]:
    """In it, the older version is stable and the newer has no label, whatever was typed before."""
    serving = place / "w" / "serving"
    for file in (serving / "models.config", serving / "releases.jsonl"):
        file.unlink(missing_ok=True)
    home = Home(place)
    Releases(serving).release(home.versions[1], STABLE, "the first")
    yield home
    home.end()


@pytest.fixture
def kubeflow() -> Iterator[None]:
    with kubeflow_endpoint(8888):
        yield


def test_every_document_with_commands_is_run():
    translated = {"README.zh-CN.md"}  # its commands are README's, see test_docs
    assert {name for name, _ in commands()} == {*RUN, "data.md", YOUR_DATA.name, *translated}


@pytest.mark.slow
@pytest.mark.parametrize("document", RUN)
def test_the_commands_do_what_they_are_for(home: Home, kubeflow: None, document: str):
    for words in (words for name, words in commands() if name == document):
        home.type(words)


@pytest.mark.slow
def test_the_commands_on_data_do_what_they_are_for(shop_data: Path, tmp_path: Path):
    home = Home(tmp_path)
    for words in (words for name, words in commands() if name == "data.md"):
        home.type(words)
    assert (tmp_path / "shop" / names.BEHAVIORS).is_dir()


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
        about = _await(lambda: httpx.get("http://localhost:8501/ui/data/about").json(), process)
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
