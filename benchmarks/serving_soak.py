"""Minutes of load while new versions come every few seconds, some of them broken: failed and wrong answers, memory.

    python -m benchmarks.serving_soak --model w/serving/homefeed

Good versions are copies of the newest version of the folder; broken ones are cut off, lack a file, have no graph for
serving, or fail their warm-up. Whatever is served has to answer as the model answers in process.
"""

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from components.atomic_pusher import next_version
from components.model_server import EMBEDDED_COMMAND, model_server
from pipeline.recommend import newest_version, read_users
from schema import names
from schema.saved_model import EXTRA, WARM_UP, ServableModel
from serving.client import connect

_KEPT = 3  # versions that stay in the folder


def cut_off(version: Path) -> None:
    """The graph is half there."""
    file = version / "saved_model.pb"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without_variables(version: Path) -> None:
    """The variables are not there."""
    shutil.rmtree(version / "variables")


def without_serving_graph(version: Path) -> None:
    """No graph has the tag `serve`."""
    file = version / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in model.meta_graphs:
        del graph.meta_info_def.tags[:]
    file.write_bytes(model.SerializeToString())


def with_failing_warm_up(version: Path) -> None:
    """The warm-up asks for a signature that is not there."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "none"
    (version / EXTRA).mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(version / EXTRA / WARM_UP)) as writer:
        writer.write(log.SerializeToString())


BROKEN = (None, cut_off, None, without_variables, None, without_serving_graph, None, with_failing_warm_up)


def push(model: Path, base: Path, number: int) -> bool:
    """Pushes the next version in one step; returns whether it is a good one."""
    version = int(next_version(str(base)))
    staging = base / f".{version}"
    shutil.copytree(model, staging)
    spoil = BROKEN[number % len(BROKEN)]
    if spoil:
        spoil(staging)
    staging.rename(base / str(version))
    for old in sorted((p for p in base.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))[:-_KEPT]:
        shutil.rmtree(old)
    return spoil is None


class Asker(threading.Thread):
    """Asks the same questions again and again.

    Attributes:
      answered, wrong, failed: how many answers were right, were not, or did not come.
    """

    def __init__(self, address: str, expected: list[tuple[Mapping[str, Any], np.ndarray]], stop: threading.Event):
        super().__init__(daemon=True)
        self._client, self._expected, self._stop_asking = connect(address, names.MODEL_NAME, 30), expected, stop
        self.answered, self.wrong = 0, 0
        self.failed: list[str] = []

    def run(self) -> None:
        while not self._stop_asking.is_set():
            for inputs, items in self._expected:
                try:
                    found = self._client.predict(names.SERVING_DEFAULT, inputs)[names.ITEM_IDS]
                except Exception as error:  # whatever it is, it is counted
                    self.failed.append(f"{type(error).__name__}: {error}")
                else:
                    self.answered += 1
                    self.wrong += not np.array_equal(found, items)


def questions(model: Path, count: int = 20) -> Iterator[tuple[Mapping[str, Any], np.ndarray]]:
    """(request, the items that the model answers with in process)."""
    users = read_users(model / "assets" / "user_ids.txt")[:count]
    servable = ServableModel(str(model))
    for user in users:
        inputs = {names.USER_ID: np.array([user], object)}
        yield inputs, servable(names.SERVING_DEFAULT, inputs)[names.ITEM_IDS]


@click.command()
@click.option("--model", required=True, type=click.Path(exists=True, path_type=Path), help="A folder of versions.")
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--every", default=20.0, show_default=True, help="Seconds from one version to the next.")
@click.option("--askers", default=2, show_default=True, help="Over each protocol.")
def main(model: Path, minutes: float, every: float, askers: int) -> None:
    """Prints the table; exit code 1 where an answer was wrong or failed."""
    newest = newest_version(model)
    expected, stop = list(questions(newest)), threading.Event()
    table = Table("minute", "versions pushed", "of them broken", "answered", "wrong", "failed", "memory")
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        push(newest, base, 0)
        with model_server(EMBEDDED_COMMAND, place) as (addresses, process):
            threads = [Asker(address, expected, stop) for address in addresses.values() for _ in range(askers)]
            for thread in threads:
                thread.start()
            start, pushed, broken, memory = time.monotonic(), 1, 0, []
            for minute in range(1, int(np.ceil(minutes)) + 1):
                seen: list[int] = []
                while time.monotonic() < start + 60 * min(minute, minutes):
                    if time.monotonic() >= start + every * pushed:
                        broken += not push(newest, base, pushed)
                        pushed += 1
                    seen.append(psutil.Process(process.pid).memory_info().rss)
                    time.sleep(0.5)
                memory.append(float(np.median(seen)))
                counts = [sum(getattr(t, name) for t in threads) for name in ("answered", "wrong")]
                failed = sum(len(t.failed) for t in threads)
                table.add_row(
                    str(minute), *map(str, (pushed, broken, *counts, failed)), f"{memory[-1] / 2**20:,.0f} MB"
                )
            stop.set()
            for thread in threads:
                thread.join(60)
    Console(width=120).print(table)
    failed_words = [words for t in threads for words in t.failed]
    half = memory[len(memory) // 2] if len(memory) > 2 else memory[0]
    print(f"Memory at the end is {memory[-1] / half:.2f} times that at half time.")
    if failed_words or any(t.wrong for t in threads):
        print(failed_words[:3])
        sys.exit(1)


if __name__ == "__main__":
    main()
