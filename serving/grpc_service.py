"""TensorFlow Serving's gRPC services over the models of a server."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import any_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.errors import Code, ServingError, invalid, of_runtime
from serving.inference import (
    DEFAULT_SIGNATURE,
    Version,
    classify,
    example_count,
    multi_inference,
    predict,
    regress,
)
from serving.loading import Loaded
from serving.models import Models

MAX_MESSAGE_BYTES = 64 << 20
SIGNATURE_DEF = "signature_def"
_FIELDS = {
    tf.string: "string_val",
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
}  # narrower integers share a field; what is not here travels as bytes


def metadata_of(loaded: Loaded) -> get_model_metadata_pb2.SignatureDefMap:
    """The signatures of a version, as GetModelMetadata tells them."""
    return get_model_metadata_pb2.SignatureDefMap(signature_def=loaded.definitions)


def status_of(models: Models, name: str, version: int | None) -> get_model_status_pb2.GetModelStatusResponse:
    """States of a model's versions, newest first. Raises ServingError where there are none."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in models.statuses(name, version):
        entry = response.model_version_status.add(version=status.version)
        entry.state = get_model_status_pb2.ModelVersionStatus.State.Value(status.state)
        entry.status.SetInParent()
        if status.error:
            entry.status.error_code, entry.status.error_message = Code.UNKNOWN.value[0], status.error
    return response


class _Service:
    def __init__(self, models: Models):
        self._models = models

    def _answer(self, context: grpc.ServicerContext, answer: Callable[[], Any], model: str = "", api: str = "") -> Any:
        """Runs a handler; what is wrong becomes TensorFlow Serving's status code. `api` of what is counted."""
        start, refused = time.perf_counter(), None
        try:
            return answer()
        except ServingError as error:
            refused = error
        except Exception as error:
            refused = of_runtime(error)
        finally:
            if api:
                metrics = self._models.metrics
                metrics.requests.add(model, refused.code.name if refused else "OK")
                if refused is None:
                    metrics.request_latency.add(model, api, "GRPC", value=1e6 * (time.perf_counter() - start))
        return context.abort(refused.code, str(refused))

    def _version(self, spec: Any, context: grpc.ServicerContext, api: str) -> Version:
        """What a ModelSpec asks for, which may answer until the request's deadline."""
        left = context.time_remaining()
        if left is not None and left <= 0:
            raise ServingError(Code.DEADLINE_EXCEEDED, "the deadline has passed")
        timeout_ms = 0 if left is None or left > 1e6 else max(int(1000 * left), 1)
        return self._models.version(spec.name, *wanted(spec), timeout_ms=timeout_ms, api=api)


def wanted(spec: Any) -> tuple[int | None, str | None]:
    """The version or the label that a request asks for, where it asks for one."""
    version = spec.version.value if spec.HasField("version") else None
    return version, spec.version_label or None


def _has_spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def _answered(response: Any, spec: Any, version: Version) -> Any:
    """Notes in a response what has answered."""
    response.model_spec.name = spec.name
    response.model_spec.signature_name = spec.signature_name or DEFAULT_SIGNATURE
    response.model_spec.version.value = version.number
    return response


class PredictionService(_Service, prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, Classify, Regress, MultiInference and GetModelMetadata."""

    def Predict(self, request: Any, context: grpc.ServicerContext) -> predict_pb2.PredictResponse:
        return self._answer(context, lambda: self._predict(request, context), request.model_spec.name, "Predict")

    def _predict(self, request: Any, context: grpc.ServicerContext) -> predict_pb2.PredictResponse:
        spec = _has_spec(request)
        version = self._version(spec, context, "Predict")
        inputs = {name: _tensor(name, tensor) for name, tensor in request.inputs.items()}
        response = _answered(predict_pb2.PredictResponse(), spec, version)
        for name, value in predict(version, spec.signature_name, inputs, request.output_filter).items():
            response.outputs[name].CopyFrom(_message(value))
        return response

    def Classify(self, request: Any, context: grpc.ServicerContext) -> classification_pb2.ClassificationResponse:
        response = classification_pb2.ClassificationResponse()
        return self._of_examples(request, context, "Classify", response, classify)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> regression_pb2.RegressionResponse:
        return self._of_examples(request, context, "Regress", regression_pb2.RegressionResponse(), regress)

    def _of_examples(
        self, request: Any, context: grpc.ServicerContext, api: str, response: Any, ask: Callable[..., Any]
    ) -> Any:
        def answer() -> Any:
            spec = _has_spec(request)
            version = self._version(spec, context, api)
            response.result.CopyFrom(ask(version, spec.signature_name, request.input))
            given = request.input
            self._models.count_examples(spec.name, example_count(given))
            return _answered(response, spec, version)

        return self._answer(context, answer, request.model_spec.name, api)

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> inference_pb2.MultiInferenceResponse:
        name = request.tasks[0].model_spec.name if request.tasks else ""

        def answer() -> inference_pb2.MultiInferenceResponse:
            if not request.tasks:
                raise invalid("Inference request must have at least one task.")
            for task in request.tasks:
                if not task.model_spec.name:
                    raise invalid("Found ModelSpec with an empty model name.")
                if task.model_spec.name != name:
                    raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
            version = self._version(request.tasks[0].model_spec, context, "MultiInference")
            results = multi_inference(version, request.tasks, request.input)
            return inference_pb2.MultiInferenceResponse(results=results)

        return self._answer(context, answer, name, "MultiInference")

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> get_model_metadata_pb2.GetModelMetadataResponse:
            spec = _has_spec(request)
            if not request.metadata_field:
                raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != SIGNATURE_DEF:
                    raise invalid(f"Metadata field {field} is not supported")
            loaded = self._models.get(spec.name, *wanted(spec))
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name, response.model_spec.version.value = spec.name, loaded.number
            packed = any_pb2.Any()
            packed.Pack(metadata_of(loaded))
            response.metadata[SIGNATURE_DEF].CopyFrom(packed)
            return response

        return self._answer(context, answer)


def _tensor(name: str, tensor: Any) -> np.ndarray:
    try:
        return tf.make_ndarray(tensor)
    except (ValueError, TypeError) as error:
        raise invalid(f"tensor parsing error: {name}") from error


def _message(value: np.ndarray) -> Any:
    """A tensor's message, its values in its dtype's field, as TensorFlow Serving has it by default."""
    dtype = tf.string if value.dtype == object else tf.dtypes.as_dtype(value.dtype)
    field = _FIELDS.get(dtype, "int_val" if dtype.is_integer else "")
    if not field:
        return tf.make_tensor_proto(value)
    message = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in value.shape:
        message.tensor_shape.dim.add(size=size)
    getattr(message, field).extend(value.ravel().tolist())
    return message


class ModelService(_Service, model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> get_model_status_pb2.GetModelStatusResponse:
            spec = _has_spec(request)
            return status_of(self._models, spec.name, wanted(spec)[0])

        return self._answer(context, answer)

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> model_management_pb2.ReloadConfigResponse:
            self._models.apply(request.config)
            return model_management_pb2.ReloadConfigResponse()

        return self._answer(context, answer)


def start_grpc(
    models: Models,
    port: int,
    threads: int = 16,
    credentials: grpc.ServerCredentials | None = None,
    arguments: tuple[tuple[str, Any], ...] = (),
    socket_path: str = "",
) -> tuple[grpc.Server, int]:
    """Starts both services.

    Args:
      models: what is served.
      port: to listen on; one that is free where negative, none where 0.
      threads: requests that are answered at a time.
      credentials: for TLS.
      arguments: of the channel, such as `grpc.max_receive_message_length`.
      socket_path: of a UNIX socket to listen on as well.

    Returns:
      The server and its port.

    Raises:
      RuntimeError: the port or the socket is taken.
    """
    limits = {"grpc.max_receive_message_length": MAX_MESSAGE_BYTES, "grpc.so_reuseport": 0, **dict(arguments)}
    server = grpc.server(ThreadPoolExecutor(threads, thread_name_prefix="grpc"), options=list(limits.items()))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(models), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), server)
    bound = 0
    for address in [f"0.0.0.0:{max(port, 0)}"] * bool(port) + [f"unix:{socket_path}"] * bool(socket_path):
        found = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        bound = bound or found
    server.start()
    return server, bound
