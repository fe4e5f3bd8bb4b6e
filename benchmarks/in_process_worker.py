"""Asks the SavedModel in this process, for `benchmarks.serving_load`: FOLDER USERS AT_ONCE BATCHING SECONDS. USERS is a
file of ids, BATCHING one of BatchingParameters. Prints a line of JSON: `rate`, requests a second with batches, and
`alone`, the median of one call in milliseconds."""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from schema import names
from schema.saved_model import ServableModel
from serving.batching import BatchedModel, BatchPool, read_options
from serving.metrics import Metrics


def in_process(folder: str, users: list[bytes], at_once: int, file: str, seconds: float) -> dict[str, float]:
    """See above."""
    # Two batches on two cores: threads within an op would only wait for each other. The server has the same setting.
    model = ServableModel(folder, config=tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1))
    ask = _asker(model, users)
    for _ in range(5):
        ask(0)
    alone = []
    for number in range(200):
        start = time.perf_counter()
        ask(number)
        alone.append(time.perf_counter() - start)
    pool = BatchPool(read_options(file), Metrics())
    try:
        rate = _threads(_asker(BatchedModel(model, pool), users), at_once, seconds)
    finally:
        pool.stop()
    return {"rate": rate, "alone": 1000 * float(np.median(alone))}


def _asker(model: Callable[..., Any], users: list[bytes]) -> Callable[[int], Any]:
    def ask(number: int) -> Any:
        return model(names.SERVING_DEFAULT, {names.USER_ID: np.array([users[number % len(users)]], object)})

    return ask


def _threads(ask: Callable[[int], Any], count: int, seconds: float) -> float:
    """Requests a second of so many threads."""
    for number in range(count):
        ask(number)
    end, answered = time.monotonic() + seconds, [0] * count

    def work(thread: int) -> None:
        while time.monotonic() < end:
            ask(thread + count * answered[thread])
            answered[thread] += 1

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))
    return sum(answered) / seconds


def main(folder: str, users: str, at_once: str, file: str, seconds: str) -> None:
    ids = [user for user in Path(users).read_bytes().split(b"\n") if user]
    print(json.dumps(in_process(folder, ids, int(at_once), file, float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
