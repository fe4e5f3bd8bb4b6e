"""A sample of what a server was asked, as tf.Examples: what `homefeed drift` compares with the training data.

Who asked is not in it: neither user ids nor anything that the answer says.
"""

import os
import random
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from schema import names

_ASKED = (names.SERVING_DEFAULT, names.RECOMMEND)
# Inputs of which a row is logged; the rest is either the user or a matter of the page.
_LOGGED = (names.HISTORY_ITEM_IDS, names.HISTORY_EVENTS, names.HISTORY_TIMESTAMPS, names.TRAITS)


class RequestLog:
    """Writes files of examples to a folder; each has its name only once it is whole.

    Args:
      folder: made where there is none.
      share: of the requests that are logged.
      rows: of a file.
      seconds: after which a file is ended, however many rows it has.
    """

    def __init__(self, folder: str, share: float, rows: int = 1000, seconds: float = 300.0):
        self._folder, self._share, self._rows, self._seconds = Path(folder), share, rows, seconds
        self._folder.mkdir(parents=True, exist_ok=True)
        self._waiting: list[bytes] = []
        self._since = time.monotonic()
        self._files = 0
        self._changing = threading.Lock()

    def note(self, signature: str, inputs: Mapping[str, np.ndarray]) -> None:
        """Logs a request that was answered, or leaves it."""
        if signature not in _ASKED or random.random() >= self._share:
            return
        examples = [_example(inputs, row) for row in range(len(inputs.get(names.USER_ID, ())))]
        with self._changing:
            self._waiting += examples
            is_due = len(self._waiting) >= self._rows or time.monotonic() - self._since >= self._seconds
            ended = self._take() if is_due else None
        if ended:
            self._write(*ended)

    def close(self) -> None:
        """Writes what waits."""
        with self._changing:
            ended = self._take()
        self._write(*ended)

    def _take(self) -> tuple[int, list[bytes]]:
        taken, self._waiting, self._since = self._waiting, [], time.monotonic()
        self._files += 1
        return self._files, taken

    def _write(self, number: int, examples: Collection[bytes]) -> None:
        if not examples:
            return
        path = self._folder / f"requests-{int(time.time())}-{os.getpid()}-{number:05d}.gz"
        partial = path.with_suffix(".partial")
        with tf.io.TFRecordWriter(str(partial), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for example in examples:
                writer.write(example)
        partial.replace(path)


def _example(inputs: Mapping[str, np.ndarray], row: int) -> bytes:
    example = tf.train.Example()
    feature = example.features.feature
    asked = int(inputs[names.TIMESTAMP][row]) if len(inputs.get(names.TIMESTAMP, ())) > row else 0
    feature[names.TIMESTAMP].int64_list.value.append(asked or int(time.time()))
    there = [value != names.PADDING.encode() for value in _row(inputs, names.HISTORY_ITEM_IDS, row)]
    for name in _LOGGED:
        values = _row(inputs, name, row)
        if name in (names.HISTORY_EVENTS, names.HISTORY_TIMESTAMPS):
            values = [value for value, is_there in zip(values, there, strict=False) if is_there]
        if name == names.HISTORY_TIMESTAMPS:
            feature[name].int64_list.value.extend(int(value) for value in values)
        else:
            feature[name].bytes_list.value.extend(value for value in values if value)
    return example.SerializeToString(deterministic=True)


def _row(inputs: Mapping[str, np.ndarray], name: str, row: int) -> list:
    """A row of an input; a default has one row for all. Empty where the request leaves it out."""
    given = inputs.get(name)
    return [] if given is None or not len(given) else given[min(row, len(given) - 1)].tolist()
