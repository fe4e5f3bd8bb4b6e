"""The flags of `tensorflow_model_server` that the embedded server knows, with the same names and defaults."""

import os
from dataclasses import dataclass, field, fields
from typing import Any

_THREADS = 4 * (os.cpu_count() or 1)


def _flag(default: Any, words: str) -> Any:
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True)
class Flags:
    """See `--help`. A port of 0 is not listened on; a negative one is any that is free, which is of use to tests."""

    port: int = _flag(8500, "gRPC; none where 0.")
    grpc_socket_path: str = _flag("", "UNIX socket for gRPC, beside the port.")
    grpc_max_threads: int = _flag(_THREADS, "gRPC requests that are answered at a time.")
    grpc_channel_arguments: str = _flag("", "Of the gRPC server, as KEY=VALUE,….")
    rest_api_port: int = _flag(0, "REST; none where 0.")
    rest_api_num_threads: int = _flag(_THREADS, "REST requests that are answered at a time.")
    rest_api_timeout_in_ms: int = _flag(30_000, "After which a REST request is given up.")
    rest_api_enable_cors_support: bool = _flag(False, "Pages of other origins may ask over REST.")
    model_name: str = _flag("default", "What requests call the model of --model_base_path.")
    model_base_path: str = _flag("", "Folder of versions; the newest that loads is served.")
    model_config_file: str = _flag("", "Which models and versions are served, under which labels.")
    model_config_file_poll_wait_seconds: int = _flag(0, "How often that file is looked at; once where 0.")
    file_system_poll_wait_seconds: float = _flag(1.0, "How often new versions are looked for; once where 0.")
    allow_version_labels_for_unavailable_models: bool = _flag(False, "Labels may be given before a version is served.")
    enable_batching: bool = _flag(False, "Requests that come together are run together.")
    batching_parameters_file: str = _flag("", "BatchingParameters in text form.")
    monitoring_config_file: str = _flag("", "MonitoringConfig in text form: the page for Prometheus.")
    ssl_config_file: str = _flag("", "SSLConfig in text form: TLS for gRPC, mutual with client_verify.")
    enable_model_warmup: bool = _flag(True, "A version replays its warm-up requests before it answers others.")
    num_request_iterations_for_warmup: int = _flag(0, "How often it does; once where 0.")
    saved_model_tags: str = _flag("serve", "Of the graph to load, separated by commas.")
    tensorflow_session_parallelism: int = _flag(0, "Threads of a session; TensorFlow's choice where 0.")
    tensorflow_intra_op_parallelism: int = _flag(0, "Threads of one op.")
    tensorflow_inter_op_parallelism: int = _flag(0, "Ops at a time.")
    enable_grpc_healthcheck_service: bool = _flag(False, "The standard gRPC health service.")
    request_log_folder: str = _flag("", "homefeed's own: gets a sample of the requests, without users.")
    request_log_share: float = _flag(0.01, "Of the requests that are logged there.")

    @classmethod
    def described(cls) -> list[tuple[str, Any, str]]:
        """(name, default, help) of each flag."""
        return [(flag.name, flag.default, flag.metadata["help"]) for flag in fields(cls)]
