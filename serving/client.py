"""One typed API over gRPC and REST, for the embedded server and for TensorFlow Serving alike."""

from collections.abc import Mapping
from typing import Any, Protocol

import grpc
import httpx
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from schema.errors import HomefeedError
from schema.signatures import INPUTS

# Codes after which the same request is safe to send again: it was not answered.
_AGAIN_GRPC = {grpc.StatusCode.UNAVAILABLE}
_AGAIN_REST = {502, 503}
_ATTEMPTS = 3


class RequestFailed(HomefeedError):
    """The server refused a request, or could not be reached. `code` is the gRPC code's name or the HTTP status."""

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code


class Client(Protocol):
    """What both protocols can do."""

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Asks a signature.

        Args:
          signature: such as `names.RECOMMEND`.
          inputs: arrays, or lists that NumPy makes arrays of, by input name; strings as str or bytes.

        Returns:
          Arrays by output name; strings as objects (bytes).

        Raises:
          RequestFailed: the server's code and message.
        """

    def status(self) -> dict[int, str]:
        """Version -> state, such as AVAILABLE."""

    def signatures(self) -> dict[str, dict[str, list[str]]]:
        """Signature -> {"inputs": names, "outputs": names}."""


def connect(address: str, model_name: str, timeout: float = 10.0, label: str = "") -> Client:
    """A client of `grpc://HOST:PORT` or `http://HOST:PORT`; `timeout` in seconds bounds each request.

    Predictions are of the version that has the label, such as `stable`; without one, of the newest that is served.

    Raises:
      ValueError: another scheme.
    """
    scheme, _, host = address.partition("://")
    if scheme == "grpc":
        return GrpcClient(host, model_name, timeout, label)
    if scheme in ("http", "https"):
        return RestClient(address, model_name, timeout, label)
    raise ValueError(f"{address}: an address begins with grpc://, http:// or https://")


class GrpcClient:
    """Asks over gRPC. See `Client`."""

    def __init__(self, host: str, model_name: str, timeout: float, label: str = ""):
        self._name, self._timeout, self._label = model_name, timeout, label
        channel = grpc.insecure_channel(host, options=[("grpc.max_receive_message_length", -1)])
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._name, signature
        if self._label:
            request.model_spec.version_label = self._label
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value, _INPUT_DTYPES.get(name)))
        response = self._call(self._predict.Predict, request)
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def status(self) -> dict[int, str]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._name
        response = self._call(self._model.GetModelStatus, request)
        states = get_model_status_pb2.ModelVersionStatus.State
        return {entry.version: states.Name(entry.state) for entry in response.model_version_status}

    def signatures(self) -> dict[str, dict[str, list[str]]]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._name
        response = self._call(self._predict.GetModelMetadata, request)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        return _signature_names(json_format.MessageToDict(definitions, preserving_proto_field_name=True))

    def reload(self, config: Any) -> None:
        """Asks the server to serve by another `ModelServerConfig`. Raises RequestFailed where it refuses."""
        self._call(self._model.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest(config=config))

    def _call(self, method: Any, request: Any) -> Any:
        retrying = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential(multiplier=0.1, max=1),
            retry=retry_if_exception(lambda e: isinstance(e, grpc.RpcError) and e.code() in _AGAIN_GRPC),
            reraise=True,
        )
        try:
            return retrying(method, request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise RequestFailed(error.code().name, error.details()) from error


class RestClient:
    """Asks over REST, in columnar form. See `Client`."""

    def __init__(self, address: str, model_name: str, timeout: float, label: str = ""):
        self._path = f"/v1/models/{model_name}"
        self._predict_path = f"{self._path}/labels/{label}:predict" if label else f"{self._path}:predict"
        self._http = httpx.Client(base_url=address, timeout=timeout)

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        body = {"signature_name": signature, "inputs": {name: _plain(value) for name, value in inputs.items()}}
        outputs = self._call("POST", self._predict_path, json=body)["outputs"]
        if not isinstance(outputs, dict):  # a single output comes without its name
            outputs = {self.signatures()[signature]["outputs"][0]: outputs}
        return {name: _array(value) for name, value in outputs.items()}

    def status(self) -> dict[int, str]:
        entries = self._call("GET", self._path)["model_version_status"]
        return {int(entry["version"]): entry["state"] for entry in entries}

    def signatures(self) -> dict[str, dict[str, list[str]]]:
        return _signature_names(self._call("GET", f"{self._path}/metadata")["metadata"]["signature_def"])

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        retrying = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential(multiplier=0.1, max=1),
            retry=retry_if_exception(_is_safe_to_repeat),
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, arguments)
        except httpx.HTTPStatusError as error:
            raise RequestFailed(str(error.response.status_code), _message(error.response)) from error
        except httpx.HTTPError as error:
            raise RequestFailed("UNAVAILABLE", f"{type(error).__name__}: {error}") from error

    def _once(self, method: str, path: str, arguments: dict[str, Any]) -> Any:
        response = self._http.request(method, path, **arguments)
        response.raise_for_status()
        return response.json()


# gRPC tensors carry their dtype; lists of Python numbers take the contract's, not NumPy's.
_INPUT_DTYPES = {name: dtype for name, (dtype, _, _) in INPUTS.items() if dtype != tf.string}


def _is_safe_to_repeat(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _AGAIN_REST
    return isinstance(error, httpx.ConnectError)


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _array(value: Any) -> np.ndarray:
    array = np.array(value)
    return np.char.encode(array, "utf-8").astype(object) if array.dtype.kind == "U" else array


def _signature_names(definitions: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    return {
        name: {side: sorted(definition.get(side, {})) for side in ("inputs", "outputs")}
        for name, definition in definitions["signature_def"].items()
    }
