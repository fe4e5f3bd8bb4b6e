"""The embedded model server: TensorFlow Serving's protocols and flag names over the same versioned folder."""

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from schema import names
from schema.errors import HomefeedError, InputError
from serving.grpc_service import start_grpc
from serving.model_config import only_model, policy_of, read_config
from serving.rest_service import rest_app
from serving.versions import LabelRefused, VersionedModel

log = logging.getLogger("homefeed.serving")
_DRAIN_SECONDS = 10


@dataclass(frozen=True)
class Flags:
    """TensorFlow Serving's flags of these names; `model_config_file` stands in for the name and the folder.

    Attributes:
      poll_seconds: how often the folder, or the configuration file, is looked at.
    """

    model_name: str = names.MODEL_NAME
    model_base_path: str = ""
    port: int = 0
    rest_api_port: int = 0
    model_config_file: str = ""
    allow_version_labels_for_unavailable_models: bool = False
    poll_seconds: float = 1.0


def serve(flags: Flags) -> None:
    """Serves until SIGTERM or SIGINT, then lets running requests finish.

    Raises:
      InputError: the folder or the configuration cannot be used, no version loads, or a port is taken.
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with running_server(flags) as (grpc_port, rest_port):
        what = flags.model_config_file or f"{flags.model_name} from {flags.model_base_path}"
        print(f"Serving {what}: gRPC on {grpc_port}, REST on {rest_port}.", flush=True)
        stopped.wait()


@contextmanager
def running_server(flags: Flags) -> Iterator[tuple[int, int]]:
    """A server in this process; gives its gRPC and REST ports, chosen by the system where they are 0."""
    model, look = _first_look(flags)
    try:
        model.get(model.name)
    except Exception as error:
        raise InputError(
            f"{flags.model_config_file or flags.model_base_path}: holds no version that can be served; push one with "
            "`homefeed run`."
        ) from error
    listener = _listen(flags.rest_api_port)
    try:
        grpc_server, grpc_port = start_grpc(model, flags.port)
    except RuntimeError as error:
        listener.close()
        raise InputError(f"port {flags.port}: cannot be listened on ({error}); choose another with --port.") from error
    # Logging stays the caller's: uvicorn's own configuration would close every handler there is.
    config = uvicorn.Config(
        rest_app(model), log_config=None, access_log=False, timeout_graceful_shutdown=_DRAIN_SECONDS
    )
    rest = uvicorn.Server(config)
    rest.install_signal_handlers = lambda: None  # ours decide when to stop
    thread = threading.Thread(target=rest.run, kwargs={"sockets": [listener]}, name="rest", daemon=True)
    thread.start()
    model.watch(flags.poll_seconds, look)
    try:
        yield grpc_port, listener.getsockname()[1]
    finally:
        model.stop()
        rest.should_exit = True
        grpc_server.stop(_DRAIN_SECONDS).wait()
        thread.join(_DRAIN_SECONDS)


def _first_look(flags: Flags) -> tuple[VersionedModel, Callable[[], None]]:
    """The model with what is served of it now, and how to look for more."""
    early = flags.allow_version_labels_for_unavailable_models
    if not flags.model_config_file:
        if not Path(flags.model_base_path).is_dir():
            raise InputError(
                f"{flags.model_base_path}: is not a folder; give the folder of versions, such as W/serving/homefeed."
            )
        model = VersionedModel(flags.model_name, flags.model_base_path, early)
        model.refresh()
        return model, model.refresh
    known = read_config(flags.model_config_file)
    config = only_model(known)
    model = VersionedModel(config.name, config.base_path, early)
    try:
        model.apply(policy_of(config))
    except LabelRefused as error:
        raise InputError(f"{flags.model_config_file}: {error}.") from error

    def look() -> None:
        nonlocal known
        try:
            found = read_config(flags.model_config_file)
            if found == known:
                model.refresh()
                return
            model.apply(policy_of(only_model(found)))
            known = found
        except HomefeedError as error:  # what is served stays as it is
            log.error("%s: %s", flags.model_config_file, error)

    return model, look


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
