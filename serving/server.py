"""The embedded model server: TensorFlow Serving's protocols and flags over the same versioned folders."""

import gc
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import uvicorn
from starlette.applications import Starlette

from schema.errors import HomefeedError, InputError
from schema.signals import told_to_end
from serving.batching import BatchPool, Options, read_options
from serving.errors import ServingError
from serving.flags import Flags
from serving.grpc_service import GrpcServer
from serving.health import health_handler
from serving.loading import Loader
from serving.logs import log_to_stderr
from serving.messages import ModelServerConfig, MonitoringConfig, SessionConfig, SSLConfig, read_message
from serving.metrics import PAGE, Metrics
from serving.model_config import model_config, read_config
from serving.models import Models
from serving.request_log import RequestLog
from serving.rest_service import RestOptions, rest_app
from serving.ui import PATH, Shown, ui_routes
from serving.versions import Policy

log = logging.getLogger("homefeed.serving")
_DRAIN_SECONDS = 10


def serve(flags: Flags, shown: Shown | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then lets running requests finish. `shown` is of the home-feed page, where there
    is to be one.

    Raises:
      InputError: the folder or a configuration cannot be used, no version loads, or a port is taken.
    """
    log_to_stderr()
    stopped = told_to_end()
    gc.freeze()  # no answer waits while the collector looks through what was imported
    with running_server(flags, shown) as (grpc_port, rest_port):
        what = flags.model_config_file or f"{flags.model_name} from {flags.model_base_path}"
        ports = [f"{name} on {port}" for name, port in (("gRPC", grpc_port), ("REST", rest_port)) if port]
        print(f"Serving {what}: {', '.join(ports)}.", flush=True)
        if shown:
            print(f"The page: http://localhost:{rest_port}{PATH}", flush=True)
        stopped.wait()


@contextmanager
def running_server(flags: Flags, shown: Shown | None = None) -> Iterator[tuple[int, int]]:
    """A server in this process; gives its gRPC and REST ports, 0 where it does not listen.

    With a page (`shown`), the two newest versions of a folder are served, for a look at both.

    Raises:
      InputError: as `serve`.
    """
    if flags.port == 0 and not flags.grpc_socket_path:
        raise InputError("--port: at least one of --port and --grpc_socket_path is needed.")
    if flags.rest_api_port > 0 and flags.rest_api_port == flags.port:
        raise InputError(f"--rest_api_port: {flags.port} is the gRPC port already.")
    metrics = Metrics()
    pool = _batch_pool(flags, metrics)
    requests = _request_log(flags)
    note = requests.note if requests else None
    models = Models(_loader(flags, metrics, pool), flags.allow_version_labels_for_unavailable_models, note)
    look = _first_look(flags, models, latest=2 if shown else 1)
    listener = _listen(flags.rest_api_port) if flags.rest_api_port else None
    is_draining = threading.Event()
    health = (health_handler(lambda: not is_draining.is_set()),) if flags.enable_grpc_healthcheck_service else ()
    try:
        grpc_server = GrpcServer(
            models,
            flags.port,
            flags.grpc_max_threads,
            _credentials(flags.ssl_config_file),
            _channel_arguments(flags.grpc_channel_arguments),
            flags.grpc_socket_path,
            health,
        )
    except RuntimeError as error:
        if listener:
            listener.close()
        raise InputError(f"port {flags.port}: cannot be listened on ({error}); choose another with --port.") from error
    pages = ui_routes(shown) if shown else []
    rest = _start_rest(listener, rest_app(models, _rest_options(flags), pages)) if listener else None
    models.watch(flags.file_system_poll_wait_seconds, models.refresh)
    models.watch(flags.model_config_file_poll_wait_seconds, look)
    try:
        yield grpc_server.port, listener.getsockname()[1] if listener else 0
    finally:
        log.info("draining")
        is_draining.set()
        models.stop()
        if rest:
            rest[0].should_exit = True
        grpc_server.stop(_DRAIN_SECONDS)
        if rest:
            rest[1].join(_DRAIN_SECONDS)
        if pool:
            pool.stop()
        if requests:
            requests.close()
        log.info("stopped")


def _start_rest(listener: socket.socket, app: Starlette) -> tuple[uvicorn.Server, threading.Thread]:
    # Logging stays the caller's: uvicorn's own configuration would close every handler there is.
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_DRAIN_SECONDS)
    rest = uvicorn.Server(config)
    rest.install_signal_handlers = lambda: None  # ours decide when to stop
    thread = threading.Thread(target=rest.run, kwargs={"sockets": [listener]}, name="rest", daemon=True)
    thread.start()
    return rest, thread


def _request_log(flags: Flags) -> RequestLog | None:
    if not flags.request_log_folder:
        return None
    if not 0 < flags.request_log_share <= 1:
        raise InputError(f"--request_log_share={flags.request_log_share}: has to be above 0 and at most 1.")
    try:
        return RequestLog(flags.request_log_folder, flags.request_log_share)
    except OSError as error:
        raise InputError(
            f"--request_log_folder: {flags.request_log_folder} cannot be made ({error.strerror})."
        ) from error


def _batch_pool(flags: Flags, metrics: Metrics) -> BatchPool | None:
    if not flags.enable_batching:
        if flags.batching_parameters_file:
            raise InputError("--batching_parameters_file: is set without --enable_batching.")
        return None
    options = read_options(flags.batching_parameters_file) if flags.batching_parameters_file else Options()
    return BatchPool(options, metrics)


def _loader(flags: Flags, metrics: Metrics, pool: BatchPool | None) -> Loader:
    both = flags.tensorflow_intra_op_parallelism or flags.tensorflow_inter_op_parallelism
    if flags.tensorflow_session_parallelism and both:
        raise InputError(
            "--tensorflow_session_parallelism: is set beside --tensorflow_intra_op_parallelism or "
            "--tensorflow_inter_op_parallelism; give one or the others."
        )
    session = SessionConfig(
        intra_op_parallelism_threads=flags.tensorflow_intra_op_parallelism or flags.tensorflow_session_parallelism,
        inter_op_parallelism_threads=flags.tensorflow_inter_op_parallelism or flags.tensorflow_session_parallelism,
    )
    return Loader(
        metrics,
        pool,
        tuple(flags.saved_model_tags.split(",")),
        session,
        flags.enable_model_warmup,
        max(flags.num_request_iterations_for_warmup, 1),
    )


def _rest_options(flags: Flags) -> RestOptions:
    page = ""
    if flags.monitoring_config_file:
        prometheus = read_message(flags.monitoring_config_file, MonitoringConfig).prometheus_config
        page = (prometheus.path or PAGE) if prometheus.enable else ""
    return RestOptions(
        flags.rest_api_num_threads, flags.rest_api_timeout_in_ms, flags.rest_api_enable_cors_support, page
    )


def _credentials(path: str) -> grpc.ServerCredentials | None:
    if not path:
        return None
    ssl = read_message(path, SSLConfig)
    return grpc.ssl_server_credentials(
        [(ssl.server_key.encode(), ssl.server_cert.encode())],
        root_certificates=ssl.custom_ca.encode() or None,
        require_client_auth=ssl.client_verify,
    )


def _channel_arguments(text: str) -> tuple[tuple[str, Any], ...]:
    arguments: list[tuple[str, Any]] = []
    for part in filter(None, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator:
            raise InputError(f"--grpc_channel_arguments: {part} is not KEY=VALUE.")
        told: Any = value
        with suppress(ValueError):
            told = int(value)
        arguments.append((key, told))
    return tuple(arguments)


def _first_look(flags: Flags, models: Models, latest: int) -> Callable[[], None]:
    """Loads what is to be served; gives how to look at the configuration file again."""
    where = flags.model_config_file or flags.model_base_path
    if flags.model_config_file:
        known = read_config(flags.model_config_file)
    else:
        if not Path(flags.model_base_path).is_dir():
            raise InputError(
                f"{flags.model_base_path}: is not a folder; give the folder of versions, such as W/serving/homefeed."
            )
        base = str(Path(flags.model_base_path).resolve())
        known = ModelServerConfig(
            model_config_list={"config": [model_config(flags.model_name, base, Policy(latest=latest))]}
        )
    if not known.model_config_list.config:
        raise InputError(f"{where}: names no model.")
    try:
        models.apply(known)
    except ServingError as error:
        raise InputError(f"{where}: {error}. `homefeed run` pushes versions that can be served.") from error

    def look() -> None:
        nonlocal known
        try:
            found = read_config(flags.model_config_file)
            if found != known:
                models.apply(found)
                known = found
        except HomefeedError as error:  # what is served stays as it is
            log.error("the configuration is not followed", extra={"file": where, "error": str(error)})

    return look if flags.model_config_file else lambda: None


def _listen(port: int) -> socket.socket:
    # With its protocol named: asyncio sends without delay (TCP_NODELAY) only on sockets that say they are TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("0.0.0.0", max(port, 0)))
    except OSError as error:
        listener.close()
        raise InputError(
            f"port {port}: cannot be listened on ({error}); choose another with --rest_api_port."
        ) from error
    return listener
