"""Asks a model server for feeds, from a process of its own, for `benchmarks.serving_load`: KIND ADDRESS USERS AT_ONCE
RATE SECONDS. USERS is a file of ids. Prints a line of JSON, see `load`."""

import asyncio
import gc
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from schema import names

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def load(kind: str, address: str, users: list[bytes], at_once: int, rate: float, seconds: float) -> dict[str, Any]:
    """Asks a server.

    Args:
      kind: `gRPC` or `REST`.
      address: `host:port`.
      users: whom for.
      at_once: requests that are on their way at a time.
      rate: requests a second that are begun, whatever comes back; as many as are answered where 0.
      seconds: how long.

    Returns:
      `rate` that was answered, `latencies` in milliseconds, `errors`.
    """
    uvloop.install()
    return asyncio.run(_load(kind, address, users, at_once, rate, seconds))


async def _load(
    kind: str, address: str, users: list[bytes], at_once: int, rate: float, seconds: float
) -> dict[str, Any]:
    errors: list[str] = []
    latencies: list[float] = []
    async with Connection(kind, address, users, at_once) as ask:

        async def once(number: int, due: float) -> None:
            try:
                await ask(number)
            except (grpc.RpcError, OSError) as error:
                errors.append(str(error))
            latencies.append(time.perf_counter() - due)

        start = time.perf_counter()
        end = start + seconds
        if rate:
            tasks, number = [], 0
            while (due := start + number / rate) < end:
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                tasks.append(asyncio.create_task(once(number, due)))
                number += 1
            await asyncio.gather(*tasks)
        else:

            async def work(worker: int) -> None:
                number = worker
                while time.perf_counter() < end:
                    await once(number, time.perf_counter())
                    number += at_once

            await asyncio.gather(*(work(worker) for worker in range(at_once)))
        taken = time.perf_counter() - start
    return {
        "rate": len(latencies) / taken,
        "latencies": [1000 * s for s in latencies],
        "errors": len(errors),
        "first": errors[:1],
    }


class Connection:
    """Gives, as an async context manager, a function that asks for the n-th user."""

    def __init__(self, kind: str, address: str, users: list[bytes], at_once: int):
        self._kind, self._address, self._users, self._at_once = kind, address, users, at_once

    async def __aenter__(self) -> Callable[[int], Any]:
        if self._kind == "gRPC":
            self._channel = grpc.aio.insecure_channel(self._address)
            # Bytes in and bytes out: the load is made on the cores that are measured.
            predict = self._channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            requests = [_request(user).SerializeToString() for user in self._users]
            return lambda number: predict(requests[number % len(requests)], timeout=60)
        rows = [{names.USER_ID: user.decode(), names.HISTORY_ITEM_IDS: [""]} for user in self._users]
        requests = [_post(self._address, json.dumps({"instances": [row]}).encode()) for row in rows]
        host, port = self._address.rsplit(":", 1)
        streams = [await asyncio.open_connection(host, int(port)) for _ in range(self._at_once)]
        self._writers = [writer for _, writer in streams]
        free: asyncio.Queue[Any] = asyncio.Queue()
        for stream in streams:
            free.put_nowait(stream)

        async def ask(number: int) -> None:
            reader, writer = await free.get()
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(_LENGTH.findall(head)[0]))
            free.put_nowait((reader, writer))
            if not head.startswith(b"HTTP/1.1 200"):
                raise OSError(body.decode())

        return ask

    async def __aexit__(self, *_: Any) -> None:
        if self._kind == "gRPC":
            await self._channel.close()
        else:
            for writer in self._writers:
                writer.close()


def _post(host: str, body: bytes) -> bytes:
    """An HTTP request. No client of a library: these take as long as the server, on the cores that are measured."""
    path = f"/v1/models/{names.MODEL_NAME}:predict"
    return f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _request(user: bytes) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = names.MODEL_NAME
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[user])
    tensor.tensor_shape.dim.add(size=1)
    request.inputs[names.USER_ID].CopyFrom(tensor)
    return request


def main(kind: str, address: str, users: str, at_once: str, rate: str, seconds: str) -> None:
    gc.disable()  # a pause of this process is no answer's latency
    ids = [user for user in Path(users).read_bytes().split(b"\n") if user]
    print(json.dumps(load(kind, address, ids, int(at_once), float(rate), float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
