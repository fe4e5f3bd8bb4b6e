"""Asks over gRPC, sync and async. See `serving.client`."""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tenacity import AsyncRetrying, Retrying
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from schema.signatures import INPUTS
from serving.calls import Deadline, failed, names_of, policy

_CHANNEL = [("grpc.max_receive_message_length", -1)]
# gRPC tensors carry their dtype; lists of Python numbers take the contract's, not NumPy's.
_INPUT_DTYPES = {name: dtype for name, (dtype, _, _) in INPUTS.items() if dtype != tf.string}


class _Grpc:
    """Requests and answers of gRPC, for both clients."""

    _library: Any = grpc

    def __init__(
        self,
        host: str,
        model_name: str,
        timeout: float,
        label: str = "",
        credentials: grpc.ChannelCredentials | None = None,
    ):
        self._name, self._timeout, self._label = model_name, timeout, label
        if credentials is None:
            channel = self._library.insecure_channel(host, _CHANNEL)
        else:
            channel = self._library.secure_channel(host, credentials, _CHANNEL)
        self._channel = channel
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)

    def _predict_request(self, signature: str, inputs: Mapping[str, Any]) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._name, signature
        if self._label:
            request.model_spec.version_label = self._label
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value, _INPUT_DTYPES.get(name)))
        return request

    def _status_request(self) -> get_model_status_pb2.GetModelStatusRequest:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._name
        return request

    def _metadata_request(self) -> get_model_metadata_pb2.GetModelMetadataRequest:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._name
        return request


def _outputs(response: predict_pb2.PredictResponse) -> dict[str, np.ndarray]:
    return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}


def _states(response: get_model_status_pb2.GetModelStatusResponse) -> dict[int, str]:
    states = get_model_status_pb2.ModelVersionStatus.State
    return {entry.version: states.Name(entry.state) for entry in response.model_version_status}


def _definitions(response: get_model_metadata_pb2.GetModelMetadataResponse) -> dict[str, Any]:
    definitions = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(definitions)
    return json_format.MessageToDict(definitions, preserving_proto_field_name=True)


class GrpcClient(_Grpc):
    """Asks over gRPC. See `Client`."""

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return _outputs(self._call(self._predictions.Predict, self._predict_request(signature, inputs)))

    def status(self) -> dict[int, str]:
        return _states(self._call(self._models.GetModelStatus, self._status_request()))

    def signatures(self) -> dict[str, dict[str, list[str]]]:
        return names_of(_definitions(self._call(self._predictions.GetModelMetadata, self._metadata_request())))

    def reload(self, config: Any) -> None:
        """Asks the server to serve by another `ModelServerConfig`. Raises RequestFailed where it refuses."""
        self._call(self._models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest(config=config))

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Any, request: Any) -> Any:
        deadline = Deadline(self._timeout)
        try:
            return policy(Retrying, self._timeout)(lambda: method(request, timeout=deadline.left()))
        except grpc.RpcError as error:
            raise failed(error) from error


class AsyncGrpcClient(_Grpc):
    """Asks over gRPC; its methods are awaited. See `Client`."""

    _library = grpc.aio

    async def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See `Client.predict`."""
        return _outputs(await self._call(self._predictions.Predict, self._predict_request(signature, inputs)))

    async def status(self) -> dict[int, str]:
        """See `Client.status`."""
        return _states(await self._call(self._models.GetModelStatus, self._status_request()))

    async def signatures(self) -> dict[str, dict[str, list[str]]]:
        """See `Client.signatures`."""
        return names_of(_definitions(await self._call(self._predictions.GetModelMetadata, self._metadata_request())))

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def _call(self, method: Any, request: Any) -> Any:
        deadline = Deadline(self._timeout)

        async def once() -> Any:
            return await method(request, timeout=deadline.left())

        try:
            return await policy(AsyncRetrying, self._timeout)(once)
        except grpc.RpcError as error:
            raise failed(error) from error
