"""The embedded model server: TensorFlow Serving's protocols and flag names over the same versioned folder."""

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from schema.errors import InputError
from serving.grpc_service import start_grpc
from serving.rest_service import rest_app
from serving.versions import VersionedModel

log = logging.getLogger("homefeed.serving")
_DRAIN_SECONDS = 10


def serve(model_name: str, model_base_path: str, port: int, rest_api_port: int, poll_seconds: float = 1.0) -> None:
    """Serves until SIGTERM or SIGINT, then lets running requests finish.

    Args:
      model_name, model_base_path, port, rest_api_port: as TensorFlow Serving's flags of these names.
      poll_seconds: how often the folder is looked at for a new version.

    Raises:
      InputError: the folder does not exist, holds no version that loads, or a port is taken.
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with running_server(model_name, model_base_path, port, rest_api_port, poll_seconds) as (grpc_port, rest_port):
        print(f"Serving {model_name} from {model_base_path}: gRPC on {grpc_port}, REST on {rest_port}.", flush=True)
        stopped.wait()


@contextmanager
def running_server(
    model_name: str, model_base_path: str, port: int = 0, rest_api_port: int = 0, poll_seconds: float = 1.0
) -> Iterator[tuple[int, int]]:
    """A server in this process; gives its gRPC and REST ports, chosen by the system where they are 0."""
    if not Path(model_base_path).is_dir():
        raise InputError(
            f"{model_base_path}: is not a folder; give the folder of versions, such as W/serving/homefeed."
        )
    model = VersionedModel(model_name, model_base_path)
    model.refresh()
    try:
        model.get(model_name)
    except Exception as error:
        raise InputError(
            f"{model_base_path}: holds no version that can be served; push one with `homefeed run`."
        ) from error
    listener = _listen(rest_api_port)
    try:
        grpc_server, grpc_port = start_grpc(model, port)
    except RuntimeError as error:
        listener.close()
        raise InputError(f"port {port}: cannot be listened on ({error}); choose another with --port.") from error
    # Logging stays the caller's: uvicorn's own configuration would close every handler there is.
    config = uvicorn.Config(
        rest_app(model), log_config=None, access_log=False, timeout_graceful_shutdown=_DRAIN_SECONDS
    )
    rest = uvicorn.Server(config)
    rest.install_signal_handlers = lambda: None  # ours decide when to stop
    thread = threading.Thread(target=rest.run, kwargs={"sockets": [listener]}, name="rest", daemon=True)
    thread.start()
    model.watch(poll_seconds)
    try:
        yield grpc_port, listener.getsockname()[1]
    finally:
        model.stop()
        rest.should_exit = True
        grpc_server.stop(_DRAIN_SECONDS).wait()
        thread.join(_DRAIN_SECONDS)


def _listen(port: int) -> socket.socket:
    # With its protocol named: asyncio sends without delay (TCP_NODELAY) only on sockets that say they are TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("0.0.0.0", port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"port {port}: cannot be listened on ({error}); choose another with --rest_api_port."
        ) from error
    return listener
