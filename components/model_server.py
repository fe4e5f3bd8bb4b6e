"""A model server for ServingValidator: a process of its own over one model, or one that is there already."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from components.atomic_pusher import next_version
from schema import names

_START_SECONDS = 120
_VERSION = "1"
STOCK = "tensorflow_model_server"
EMBEDDED_COMMAND = [sys.executable, "-m", "pipeline.cli", "serve"]
EMBEDDED, REMOTE = "embedded", "remote"


class Running(NamedTuple):
    """A server that serves the model.

    Attributes:
      name: what it is, for people.
      addresses: protocol -> address.
      memory: bytes that it has now; None where that cannot be told.
    """

    name: str
    addresses: dict[str, str]
    memory: Callable[[], int | None]


@contextmanager
def served(model: str, settings: Mapping[str, Any], connect: Callable[[str, str], Any]) -> Iterator[Running]:
    """Serves one exported model.

    Args:
      model: its folder.
      settings: `server`: `tensorflow_model_server` on PATH, the `embedded` one, `auto` for the first where it is there,
        or `remote`, with `grpc` and `rest`, its addresses, and `folder`, where it looks for versions.
      connect: (address, model name) -> client.

    Raises:
      RuntimeError: the server ends, or does not serve the model in time; with what it printed.
    """
    if settings["server"] == REMOTE:
        with _on_remote(model, settings, connect) as running:
            yield running
        return
    stock = shutil.which(STOCK)
    if settings["server"] == STOCK and stock is None:
        raise RuntimeError(f"{STOCK} is not on PATH.")
    use_stock = stock is not None and settings["server"] != EMBEDDED
    command = [str(stock)] if use_stock else EMBEDDED_COMMAND
    with tempfile.TemporaryDirectory() as base:
        Path(base, _VERSION).symlink_to(Path(model).resolve())
        with model_server(command, base) as (addresses, process):
            yield Running(STOCK if use_stock else "the embedded server", addresses, lambda: _memory(process.pid))


@contextmanager
def model_server(command: list[str], base: str) -> Iterator[tuple[dict[str, str], subprocess.Popen]]:
    """A server process over a folder of versions: protocol -> address, and the process.

    Raises:
      RuntimeError: it ends, or does not answer in time; with what it printed.
    """
    with tempfile.TemporaryFile() as output:
        grpc_port, rest_port = _free_ports(2)
        flags = [f"--model_name={names.MODEL_NAME}", f"--model_base_path={base}"]
        flags += [f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
        process = subprocess.Popen([*command, *flags], stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not (_listens(grpc_port) and _listens(rest_port)):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise RuntimeError(f"the model server did not start: {output.read().decode()[-500:].strip()}")
                time.sleep(0.1)
            yield {"gRPC": f"grpc://localhost:{grpc_port}", "REST": f"http://localhost:{rest_port}"}, process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _on_remote(model: str, settings: Mapping[str, Any], connect: Callable[[str, str], Any]) -> Iterator[Running]:
    """Puts the model where a running server looks, waits until it serves it, and takes it away again."""
    folder, addresses = Path(settings["folder"]), {"gRPC": settings["grpc"], "REST": settings["rest"]}
    addresses = {protocol: address for protocol, address in addresses.items() if address}
    folder.mkdir(parents=True, exist_ok=True)
    version = next_version(str(folder))
    staging, final = folder / f".{version}", folder / str(version)
    try:
        shutil.copytree(model, staging)
        staging.rename(final)
        deadline = time.monotonic() + _START_SECONDS
        for address in addresses.values():
            while (state := _state(connect, address, version)) != "AVAILABLE":
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{address} does not serve version {version} of {folder}: {state}.")
                time.sleep(0.2)
        yield Running(" and ".join(addresses.values()), addresses, lambda: None)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)


def _state(connect: Callable[[str, str], Any], address: str, version: int) -> str:
    try:
        return connect(address, names.MODEL_NAME).status().get(version, "it has not met it")
    except Exception as error:  # not there yet, or another fault that the deadline reports
        return str(error)


def _memory(process: int) -> int | None:
    try:
        return psutil.Process(process).memory_info().rss
    except psutil.Error:
        return None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
