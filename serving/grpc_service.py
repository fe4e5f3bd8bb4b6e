"""TensorFlow Serving's gRPC services over a `VersionedModel`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from schema.errors import InputError
from serving.model_config import only_model, policy_of
from serving.predict import DEFAULT_SIGNATURE, predict
from serving.versions import LabelRefused, NotServed, UnknownLabel, VersionedModel

MAX_MESSAGE_BYTES = 64 << 20


def _answer(context: grpc.ServicerContext, answer: Callable[[], Any]) -> Any:
    """Runs a handler; what is wrong with the request becomes TensorFlow Serving's status code."""
    try:
        return answer()
    except NotServed as error:
        context.abort(grpc.StatusCode.NOT_FOUND, str(error))
    except (InputError, UnknownLabel) as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


def _wanted(spec: Any) -> tuple[int | None, str | None]:
    """The version or the label that a request asks for, where it asks for one."""
    version = spec.version.value if spec.HasField("version") else None
    return version, spec.version_label or None


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, model: VersionedModel):
        self._model = model

    def Predict(self, request: Any, context: grpc.ServicerContext) -> predict_pb2.PredictResponse:
        return _answer(context, lambda: self._predict(request))

    def _predict(self, request: Any) -> predict_pb2.PredictResponse:
        version, model = self._model.get(request.model_spec.name, *_wanted(request.model_spec))
        inputs = {}
        for name, tensor in request.inputs.items():
            try:
                inputs[name] = tf.make_ndarray(tensor)
            except (TypeError, ValueError) as error:
                raise InputError(f"input {name}: cannot be read as a tensor ({error}).") from error
        outputs = predict(model, request.model_spec.signature_name, inputs, request.output_filter)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        response.model_spec.signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        return _answer(context, lambda: self._metadata(request))

    def _metadata(self, request: Any) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if list(request.metadata_field) != ["signature_def"]:
            raise InputError(f"Metadata field {', '.join(request.metadata_field) or '(none)'} is not supported")
        version, model = self._model.get(request.model_spec.name, *_wanted(request.model_spec))
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=model.signature_defs)
        response.metadata["signature_def"].Pack(definitions)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, model: VersionedModel):
        self._model = model

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        return _answer(context, lambda: self._status(request))

    def _status(self, request: Any) -> get_model_status_pb2.GetModelStatusResponse:
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in self._model.statuses(request.model_spec.name, *_wanted(request.model_spec)):
            entry = response.model_version_status.add(version=status.version)
            entry.state = get_model_status_pb2.ModelVersionStatus.State.Value(status.state)
            if status.error:
                entry.status.error_code, entry.status.error_message = grpc.StatusCode.UNKNOWN.value[0], status.error
        return response

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        return _answer(context, lambda: self._reload(request, context))

    def _reload(self, request: Any, context: grpc.ServicerContext) -> model_management_pb2.ReloadConfigResponse:
        config = only_model(request.config)
        if config.name != self._model.name:
            raise InputError(f"model {config.name}: this server serves {self._model.name}.")
        try:
            self._model.apply(policy_of(config))
        except LabelRefused as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return model_management_pb2.ReloadConfigResponse()


def start_grpc(model: VersionedModel, port: int, host: str = "0.0.0.0", threads: int = 8) -> tuple[grpc.Server, int]:
    """Starts both services; returns the server and its port (chosen by the system where `port` is 0)."""
    limits = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(threads, thread_name_prefix="grpc"), options=limits)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(model), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(model), server)
    bound = server.add_insecure_port(f"{host}:{port}")
    server.start()
    return server, bound
