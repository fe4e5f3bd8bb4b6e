"""TensorFlow Serving's gRPC services over the models of a server."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
import uvloop
from google.protobuf import any_pb2, symbol_database
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2,
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
    predict_soon,
    regress,
)
from serving.loading import Loaded
from serving.models import Models

MAX_MESSAGE_BYTES = 64 << 20
SIGNATURE_DEF = "signature_def"
_CLASSES = symbol_database.Default()  # of messages
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

    async def _answer(
        self, context: grpc.aio.ServicerContext, answer: Awaitable[Any], model: str = "", api: str = ""
    ) -> Any:
        """Awaits an answer; what is wrong becomes TensorFlow Serving's status code. `api` of what is counted."""
        start, metrics = time.perf_counter(), self._models.metrics
        try:
            response = await answer
        except (Exception, asyncio.CancelledError) as error:
            refused = _refusal(error)
            if api:
                metrics.requests.add(model, refused.code.name)
            if isinstance(error, asyncio.CancelledError):
                raise
            return await context.abort(refused.code, str(refused))
        if api:
            metrics.requests.add(model, "OK")
            metrics.request_latency.add(model, api, "GRPC", value=1e6 * (time.perf_counter() - start))
        return response

    async def _work(
        self, context: grpc.aio.ServicerContext, answer: Callable[[], Any], model: str = "", api: str = ""
    ) -> Any:
        """As `_answer`, of what may keep a thread busy: the server's others go on."""
        working = asyncio.get_running_loop().run_in_executor(None, answer)
        return await self._answer(context, working, model, api)

    def _version(self, spec: Any, context: grpc.aio.ServicerContext, api: str) -> Version:
        """What a ModelSpec asks for, which may answer until the request's deadline."""
        left = context.time_remaining()
        if left is not None and left <= 0:
            raise ServingError(Code.DEADLINE_EXCEEDED, "the deadline has passed")
        timeout_ms = 0 if left is None or left > 1e6 else max(int(1000 * left), 1)
        return self._models.version(spec.name, *wanted(spec), timeout_ms=timeout_ms, api=api)


def _refusal(error: BaseException) -> ServingError:
    if isinstance(error, ServingError):
        return error
    if isinstance(error, Exception):
        return of_runtime(error)
    return ServingError(Code.CANCELLED, "the caller has given up")


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

    async def Predict(self, request: Any, context: grpc.aio.ServicerContext) -> predict_pb2.PredictResponse:
        return await self._answer(context, self._predict(request, context), request.model_spec.name, "Predict")

    async def _predict(self, request: Any, context: grpc.aio.ServicerContext) -> predict_pb2.PredictResponse:
        spec = _has_spec(request)
        version = self._version(spec, context, "Predict")
        inputs = {name: _tensor(name, tensor) for name, tensor in request.inputs.items()}
        response = _answered(predict_pb2.PredictResponse(), spec, version)
        answer = await predict_soon(version, spec.signature_name, inputs, request.output_filter)
        for name, value in answer.items():
            response.outputs[name].CopyFrom(_message(value))
        return response

    async def Classify(
        self, request: Any, context: grpc.aio.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        response = classification_pb2.ClassificationResponse()
        return await self._of_examples(request, context, "Classify", response, classify)

    async def Regress(self, request: Any, context: grpc.aio.ServicerContext) -> regression_pb2.RegressionResponse:
        return await self._of_examples(request, context, "Regress", regression_pb2.RegressionResponse(), regress)

    async def _of_examples(
        self, request: Any, context: grpc.aio.ServicerContext, api: str, response: Any, ask: Callable[..., Any]
    ) -> Any:
        def answer() -> Any:
            spec = _has_spec(request)
            version = self._version(spec, context, api)
            response.result.CopyFrom(ask(version, spec.signature_name, request.input))
            given = request.input
            self._models.count_examples(spec.name, example_count(given))
            return _answered(response, spec, version)

        return await self._work(context, answer, request.model_spec.name, api)

    async def MultiInference(
        self, request: Any, context: grpc.aio.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
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

        return await self._work(context, answer, name, "MultiInference")

    async def GetModelMetadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
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

        return await self._work(context, answer)


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

    async def GetModelStatus(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        def answer() -> get_model_status_pb2.GetModelStatusResponse:
            spec = _has_spec(request)
            return status_of(self._models, spec.name, wanted(spec)[0])

        return await self._work(context, answer)

    async def HandleReloadConfigRequest(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        def answer() -> model_management_pb2.ReloadConfigResponse:
            self._models.apply(request.config)
            return model_management_pb2.ReloadConfigResponse()

        return await self._work(context, answer)


def _methods(module: Any, name: str, servicer: _Service) -> grpc.GenericRpcHandler:
    """A service's methods, which read their requests themselves: what cannot be read is INTERNAL, as in C++, where
    `grpc.aio` would say UNKNOWN and log the request's failure as the server's."""

    def method(of: Any) -> grpc.RpcMethodHandler:
        read, answer = _CLASSES.GetPrototype(of.input_type).FromString, getattr(servicer, of.name)

        async def asked(sent: bytes, context: grpc.aio.ServicerContext) -> Any:
            try:
                request = read(sent)
            except DecodeError:
                return await context.abort(Code.INTERNAL, "Exception deserializing request!")
            return await answer(request, context)

        written = _CLASSES.GetPrototype(of.output_type).SerializeToString
        return grpc.unary_unary_rpc_method_handler(asked, None, written)

    service = module.DESCRIPTOR.services_by_name[name]
    return grpc.method_handlers_generic_handler(service.full_name, {of.name: method(of) for of in service.methods})


class GrpcServer:
    """Both services on an event loop in a thread of its own: while TensorFlow works, no thread waits for an answer.

    Args:
      models: what is served.
      port: to listen on; one that is free where negative, none where 0.
      threads: for what is not awaited: requests that are not batched, and all but Predict.
      credentials: for TLS.
      arguments: of the channel, such as `grpc.max_receive_message_length`.
      socket_path: of a UNIX socket to listen on as well.
      handlers: of other services.

    Attributes:
      port: that it listens on; 0 where on none.

    Raises:
      RuntimeError: the port or the socket is taken.
    """

    def __init__(
        self,
        models: Models,
        port: int,
        threads: int = 16,
        credentials: grpc.ServerCredentials | None = None,
        arguments: tuple[tuple[str, Any], ...] = (),
        socket_path: str = "",
        handlers: tuple[grpc.GenericRpcHandler, ...] = (),
    ):
        limits = {"grpc.max_receive_message_length": MAX_MESSAGE_BYTES, "grpc.so_reuseport": 0, **dict(arguments)}
        addresses = [f"0.0.0.0:{max(port, 0)}"] * bool(port) + [f"unix:{socket_path}"] * bool(socket_path)
        ours = (
            _methods(prediction_service_pb2, "PredictionService", PredictionService(models)),
            _methods(model_service_pb2, "ModelService", ModelService(models)),
        )

        async def start() -> tuple[grpc.aio.Server, int]:
            server = grpc.aio.server(options=list(limits.items()))
            server.add_generic_rpc_handlers((*ours, *handlers))
            bound = [
                server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
                for address in addresses
            ]
            await server.start()
            return server, bound[0] if port else 0

        self._loop = uvloop.new_event_loop()  # wakes up sooner than asyncio's own
        self._loop.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="grpc"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self._thread.start()
        try:
            self._server, self.port = asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        except BaseException:
            self._end()
            raise

    def stop(self, grace: float) -> None:
        """Takes no more requests, and ends once those that run are answered, or after `grace` seconds."""
        asyncio.run_coroutine_threadsafe(self._server.stop(grace), self._loop).result()
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
