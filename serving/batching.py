"""Cross-request batching, with the parameters and the rules of TensorFlow Serving's BatchingSession.

Requests of one signature of one version that wait together are run as one, along dimension 0. Where their other
dimensions differ, they are padded if `pad_variable_length_inputs` is set (the contract's own padding: "" and 0), and
else run apart; TensorFlow Serving refuses the whole batch then.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

import numpy as np

from schema.errors import InputError
from schema.saved_model import ServableModel
from serving.errors import Code, ServingError, invalid
from serving.messages import BatchingParameters, read_message
from serving.metrics import Metrics

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Options:
    """BatchingParameters, with the defaults of TensorFlow's batch scheduler.

    Attributes:
      max_batch_size: rows of a batch, and of a request.
      batch_timeout_micros: how long a batch waits for more, in microseconds, where a thread is free.
      max_enqueued_batches: of a signature, waiting for a thread.
      num_batch_threads: batches that run at a time.
      thread_pool_name: of these threads.
      allowed_batch_sizes: ascending; a batch is filled up to the next one. Any size where empty.
      pad_variable_length_inputs: see above.
      enable_large_batch_splitting: a request of more rows than `max_execution_batch_size` is parted.
      max_execution_batch_size: rows of a batch then.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    thread_pool_name: str = "model_server_batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 1000

    @property
    def largest(self) -> int:
        """Rows of the largest batch that is run."""
        return self.max_execution_batch_size if self.enable_large_batch_splitting else self.max_batch_size


def read_options(path: str) -> Options:
    """Reads a file of `--batching_parameters_file`.

    Raises:
      InputError: it cannot be read, or its values contradict each other.
    """
    message = read_message(path, BatchingParameters)
    given: dict[str, Any] = {
        field.name: value.value if field.message_type else value for field, value in message.ListFields()
    }
    if "allowed_batch_sizes" in given:
        given["allowed_batch_sizes"] = tuple(given["allowed_batch_sizes"])
    options = Options(**{"max_execution_batch_size": given.get("max_batch_size", 1000), **given})
    sizes, largest = options.allowed_batch_sizes, options.largest
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != largest):
        raise InputError(f"{path}: allowed_batch_sizes are to ascend and to end with {largest}; found {list(sizes)}.")
    if min(options.max_batch_size, options.num_batch_threads, options.max_enqueued_batches, largest) < 1:
        raise InputError(f"{path}: max_batch_size, num_batch_threads and max_enqueued_batches are to be 1 or more.")
    return options


class _Task:
    def __init__(self, inputs: Arrays, rows: int):
        self.inputs, self.rows, self.enqueued = inputs, rows, time.monotonic()
        self.answer: Future[Arrays] = Future()


class _Queue:
    """Batches of one signature that wait, the oldest first; guarded by the pool's condition."""

    def __init__(self, model: ServableModel, signature: str):
        self.model, self.signature = model, signature
        self.batches: deque[list[_Task]] = deque()

    def rows(self) -> int:
        """Rows of the newest batch."""
        return sum(task.rows for task in self.batches[-1]) if self.batches else 0


class BatchPool:
    """The threads that run batches, of all models of a server."""

    def __init__(self, options: Options, metrics: Metrics):
        self.options, self._metrics = options, metrics
        self._condition = threading.Condition()
        self._waiting: list[_Queue] = []
        self._is_stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{options.thread_pool_name}_{i}", daemon=True)
            for i in range(options.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads once what waits is answered."""
        with self._condition:
            self._is_stopped = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, queue: _Queue, inputs: Arrays) -> list[_Task]:
        """Puts a request into a queue; several tasks where it is parted.

        Raises:
          ServingError: inputs that cannot be batched, or a queue that is full.
        """
        sizes = {array.shape[0] if array.ndim else -1 for array in inputs.values()}
        if -1 in sizes:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if len(sizes) != 1:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        (rows,) = sizes
        if rows > self.options.largest and not self.options.enable_large_batch_splitting:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {self.options.largest}")
        if rows > self.options.max_batch_size:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {self.options.max_batch_size}")
        starts = range(0, max(rows, 1), self.options.largest)
        parts = [
            {name: array[start : start + self.options.largest] for name, array in inputs.items()} for start in starts
        ]
        tasks = [_Task(part, len(next(iter(part.values())))) for part in parts]
        with self._condition:
            for task in tasks:
                if not queue.batches or queue.rows() + task.rows > self.options.largest:
                    if len(queue.batches) >= self.options.max_enqueued_batches:
                        raise ServingError(
                            Code.UNAVAILABLE,
                            "The batch scheduling queue to which this task was submitted is full; currently "
                            f"{len(queue.batches)} batches enqueued and max_enqueued_batches is "
                            f"{self.options.max_enqueued_batches}",
                        )
                    queue.batches.append([])
                queue.batches[-1].append(task)
            if queue not in self._waiting:
                self._waiting.append(queue)
            self._condition.notify()
        return tasks

    def _work(self) -> None:
        while True:
            found = self._next()
            if found is None:
                return
            queue, batch = found
            self._run(queue, batch)

    def _next(self) -> tuple[_Queue, list[_Task]] | None:
        """The next batch that is full or has waited long enough; None when all is answered and nothing will come."""
        patience = self.options.batch_timeout_micros / 1e6
        with self._condition:
            while True:
                now, soonest = time.monotonic(), None
                for queue in sorted(self._waiting, key=lambda q: q.batches[0][0].enqueued):
                    ready_at = queue.batches[0][0].enqueued + patience
                    is_full = len(queue.batches) > 1 or queue.rows() >= self.options.largest
                    if is_full or now >= ready_at or self._is_stopped:
                        batch = queue.batches.popleft()
                        if not queue.batches:
                            self._waiting.remove(queue)
                        return queue, batch
                    soonest = ready_at if soonest is None else min(soonest, ready_at)
                if self._is_stopped:
                    return None
                self._condition.wait(None if soonest is None else soonest - now)

    def _run(self, queue: _Queue, batch: list[_Task]) -> None:
        started = time.monotonic()
        batch = [task for task in batch if task.answer.set_running_or_notify_cancel()]  # who gave up gets no answer
        for task in batch:
            waited = 1e6 * (started - task.enqueued)
            self._metrics.queuing_latency.add(self.options.thread_pool_name, value=waited)
        for group in self._alike(batch):
            try:
                answers = self._run_together(queue, group)
            except Exception as error:  # belongs to whoever asked
                for task in group:
                    task.answer.set_exception(error)
            else:
                for task, answer in zip(group, answers, strict=True):
                    task.answer.set_result(answer)

    def _alike(self, batch: list[_Task]) -> list[list[_Task]]:
        """Tasks that can be run as one."""
        if self.options.pad_variable_length_inputs:
            return [batch]
        groups: dict[tuple[Any, ...], list[_Task]] = {}
        for task in batch:
            shapes = tuple((name, array.shape[1:]) for name, array in sorted(task.inputs.items()))
            groups.setdefault(shapes, []).append(task)
        return list(groups.values())

    def _run_together(self, queue: _Queue, group: list[_Task]) -> list[Arrays]:
        rows = sum(task.rows for task in group)
        size = next((allowed for allowed in self.options.allowed_batch_sizes if allowed >= rows), rows)
        if len(group) == 1 and size == rows:
            return [queue.model(queue.signature, group[0].inputs)]
        merged = {name: merge([task.inputs[name] for task in group], size) for name in group[0].inputs}
        outputs = queue.model(queue.signature, merged)
        for name, array in outputs.items():
            if not array.ndim or len(array) != size:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    f"input tensors: {name}",
                )
        answers, start = [], 0
        for task in group:
            answers.append({name: array[start : start + task.rows] for name, array in outputs.items()})
            start += task.rows
        return answers


def merge(arrays: list[np.ndarray], size: int) -> np.ndarray:
    """Arrays below each other, [size, …]: padded to the widest with zeros or empty strings; filled up with the first
    row."""
    inner = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
    padding = b"" if arrays[0].dtype == object else 0
    padded = []
    for array in arrays:
        missing = [(0, most - have) for most, have in zip(inner, array.shape[1:], strict=True)]
        padded.append(
            np.pad(array, [(0, 0), *missing], constant_values=padding) if any(m for _, m in missing) else array
        )
    filler = size - sum(len(array) for array in arrays)
    return np.concatenate([*padded, *[padded[0][:1]] * filler])


class BatchedModel:
    """Runs a version's signatures in batches."""

    def __init__(self, model: ServableModel, pool: BatchPool):
        self._defaults, self._pool = model.defaults, pool
        self._queues = {signature: _Queue(model, signature) for signature in model.signature_defs}

    def __call__(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Collection[str] = (), timeout_ms: int = 0
    ) -> Arrays:
        """As `ServableModel`'s. Raises ServingError: also where the request cannot be batched, or waits too long."""
        tasks = self._submit(signature, inputs)
        until = time.monotonic() + timeout_ms / 1000
        try:
            answers = [task.answer.result(max(until - time.monotonic(), 0) if timeout_ms else None) for task in tasks]
        except FutureTimeout as error:
            raise _too_late() from error
        return _joined(answers, outputs)

    async def ask(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Collection[str] = (), timeout_ms: int = 0
    ) -> Arrays:
        """As calling it, awaited."""
        seconds = timeout_ms / 1000 if timeout_ms else None
        parts = [asyncio.wrap_future(task.answer) for task in self._submit(signature, inputs)]
        try:
            if len(parts) == 1:  # as nearly all are: nothing to gather
                return _joined([await asyncio.wait_for(parts[0], seconds)], outputs)
            return _joined(await asyncio.wait_for(asyncio.gather(*parts), seconds), outputs)
        except asyncio.TimeoutError as error:
            raise _too_late() from error

    def _submit(self, signature: str, inputs: Mapping[str, np.ndarray]) -> list[_Task]:
        return self._pool.submit(self._queues[signature], {**self._defaults[signature], **inputs})


def _too_late() -> ServingError:
    return ServingError(Code.DEADLINE_EXCEEDED, "the deadline passed while the request waited")


def _joined(answers: list[Arrays], outputs: Collection[str]) -> Arrays:
    """The answers to a request's parts as one."""
    if len(answers) == 1:
        joined = answers[0]
    else:
        joined = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    return {name: joined[name] for name in outputs or joined}
