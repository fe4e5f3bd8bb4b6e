"""TensorFlow Serving's configuration messages that `tensorflow-serving-api` does not bring, for files in text form.

Built from descriptors with the names and numbers of its public .proto files: session_bundle_config.proto
(BatchingParameters), ssl_config.proto, monitoring_config.proto.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2

from schema.errors import InputError

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
}
_MESSAGES = {
    "BatchingParameters": [
        ("max_batch_size", 1, "google.protobuf.Int64Value"),
        ("batch_timeout_micros", 2, "google.protobuf.Int64Value"),
        ("max_enqueued_batches", 3, "google.protobuf.Int64Value"),
        ("num_batch_threads", 4, "google.protobuf.Int64Value"),
        ("thread_pool_name", 5, "google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, "int64*"),
        ("pad_variable_length_inputs", 7, "bool"),
        ("enable_large_batch_splitting", 8, "google.protobuf.BoolValue"),
        ("max_execution_batch_size", 9, "google.protobuf.Int64Value"),
    ],
    "SSLConfig": [
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    ],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, f"{_PACKAGE}.PrometheusConfig")],
}


def message_classes(package: str, messages: Mapping[str, Sequence[tuple[str, int, str]]]) -> dict[str, Any]:
    """Message name -> class.

    Args:
      package: of the messages.
      messages: name -> fields: (name, number, type); the type is a scalar's, with * where it repeats, or a message's.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name=f"homefeed/{package}.proto", package=package, syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for message, fields in messages.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            scalar, label = kind.removesuffix("*"), _Field.LABEL_REPEATED if "*" in kind else _Field.LABEL_OPTIONAL
            field = described.field.add(name=name, number=number, label=label)
            field.type = _SCALARS.get(scalar, _Field.TYPE_MESSAGE)
            if scalar not in _SCALARS:
                field.type_name = f".{kind}"
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


_MADE = message_classes(_PACKAGE, _MESSAGES)
BatchingParameters, SSLConfig, MonitoringConfig = (
    _MADE[name] for name in ("BatchingParameters", "SSLConfig", "MonitoringConfig")
)
ModelServerConfig, ModelConfig = model_server_config_pb2.ModelServerConfig, model_server_config_pb2.ModelConfig
SessionConfig = config_pb2.ConfigProto


def read_message(path: str, kind: Any, hint: str = "") -> Any:
    """Reads a message of a file in protobuf's text form.

    Args:
      path: the file.
      kind: the message's class.
      hint: where such a file comes from, for the error.

    Raises:
      InputError: it cannot be read, or is no such message.
    """
    after = f"; {hint}" if hint else ""
    name = kind.DESCRIPTOR.full_name
    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), kind())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}){after}.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: Error parsing text-format {name}: {error}{after}.") from error
