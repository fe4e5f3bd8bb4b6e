"""One API over gRPC and REST, sync and async, for the embedded server and for TensorFlow Serving alike.

Every request has a deadline, which its retries share. Sent again, with growing pauses, is what no server can have
answered: the connection was refused, or the answer was UNAVAILABLE.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import httpx
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)
from tensorflow.core.framework import tensor_pb2
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

_AGAIN_GRPC = {grpc.StatusCode.UNAVAILABLE}
_AGAIN_REST = {502, 503}
_ATTEMPTS = 4
_UNAVAILABLE, _DEADLINE = "UNAVAILABLE", "DEADLINE_EXCEEDED"
AWAY = frozenset({_UNAVAILABLE, _DEADLINE, "502", "503", "504"})  # codes of a server that does not answer


class RequestFailed(HomefeedError):
    """The server refused a request, or could not be reached. `code` is the gRPC code's name or the HTTP status."""

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True)
class Tls:
    """Files in PEM form: who is trusted, and for mutual TLS the client's own key and certificate."""

    ca: str
    key: str = ""
    certificate: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """For gRPC."""
        files = (self.ca, self.key, self.certificate)
        return grpc.ssl_channel_credentials(*(Path(file).read_bytes() if file else None for file in files))


class Client(Protocol):
    """What both protocols can do; the async client's methods are called the same and awaited."""

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Asks a signature.

        Args:
          signature: such as `names.RECOMMEND`.
          inputs: arrays, or lists that NumPy makes arrays of, by input name; strings as str or bytes. What is left out
            takes the signature's default.

        Returns:
          Arrays by output name; strings as objects (bytes).

        Raises:
          RequestFailed: the server's code and message.
        """

    def status(self) -> dict[int, str]:
        """Version -> state, such as AVAILABLE."""

    def signatures(self) -> dict[str, dict[str, list[str]]]:
        """Signature -> {"inputs": names, "outputs": names}."""

    def close(self) -> None:
        """Ends the connection."""


def connect(address: str, model_name: str, timeout: float = 10.0, label: str = "", tls: Tls | None = None) -> Client:
    """A client of `grpc://HOST:PORT` or `http://HOST:PORT`; `grpcs` and `https` with TLS.

    Args:
      address: as above.
      model_name: whose answers are wanted.
      timeout: seconds that a request and its retries may take together.
      label: predictions are of the version that has it, such as `stable`; without one, of the newest that is served.
      tls: for `grpcs` and `https`; the system's trust where it is missing.

    Raises:
      ValueError: another scheme.
    """
    scheme, host = _scheme(address)
    if scheme.startswith("grpc"):
        return GrpcClient(host, model_name, timeout, label, _credentials(scheme, tls))
    return RestClient(address, model_name, timeout, label, tls)


def connect_async(
    address: str, model_name: str, timeout: float = 10.0, label: str = "", tls: Tls | None = None
) -> "AsyncGrpcClient | AsyncRestClient":
    """As `connect`; the methods of what it gives are awaited. Call it where an event loop runs."""
    scheme, host = _scheme(address)
    if scheme.startswith("grpc"):
        return AsyncGrpcClient(host, model_name, timeout, label, _credentials(scheme, tls))
    return AsyncRestClient(address, model_name, timeout, label, tls)


def _scheme(address: str) -> tuple[str, str]:
    scheme, _, host = address.partition("://")
    if scheme not in ("grpc", "grpcs", "http", "https"):
        raise ValueError(f"{address}: an address begins with grpc://, grpcs://, http:// or https://")
    return scheme, host


def _credentials(scheme: str, tls: Tls | None) -> grpc.ChannelCredentials | None:
    if scheme == "grpc":
        return None
    return tls.credentials() if tls else grpc.ssl_channel_credentials()


def _policy(retrying: Any, timeout: float) -> Any:
    """How a request is sent again."""
    return retrying(
        stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(timeout),
        wait=wait_random_exponential(multiplier=0.1, max=1),
        retry=retry_if_exception(_is_safe_to_repeat),
        reraise=True,
    )


def _is_safe_to_repeat(error: BaseException) -> bool:
    if isinstance(error, grpc.RpcError):
        return error.code() in _AGAIN_GRPC
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _AGAIN_REST
    return isinstance(error, httpx.ConnectError)


def _failed(error: Exception) -> RequestFailed:
    if isinstance(error, grpc.RpcError):
        return RequestFailed(error.code().name, error.details())
    if isinstance(error, httpx.HTTPStatusError):
        return RequestFailed(str(error.response.status_code), _message(error.response))
    code = _DEADLINE if isinstance(error, httpx.TimeoutException) else _UNAVAILABLE
    return RequestFailed(code, f"{type(error).__name__}: {error}")


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


class _Deadline:
    """What is left of a request's time."""

    def __init__(self, seconds: float):
        self._until = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds; more than 0."""
        return max(self._until - time.monotonic(), 0.001)


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
        return _names_of(_definitions(self._call(self._predictions.GetModelMetadata, self._metadata_request())))

    def reload(self, config: Any) -> None:
        """Asks the server to serve by another `ModelServerConfig`. Raises RequestFailed where it refuses."""
        self._call(self._models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest(config=config))

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Any, request: Any) -> Any:
        deadline = _Deadline(self._timeout)
        try:
            return _policy(Retrying, self._timeout)(lambda: method(request, timeout=deadline.left()))
        except grpc.RpcError as error:
            raise _failed(error) from error


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
        return _names_of(_definitions(await self._call(self._predictions.GetModelMetadata, self._metadata_request())))

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def _call(self, method: Any, request: Any) -> Any:
        deadline = _Deadline(self._timeout)

        async def once() -> Any:
            return await method(request, timeout=deadline.left())

        try:
            return await _policy(AsyncRetrying, self._timeout)(once)
        except grpc.RpcError as error:
            raise _failed(error) from error


class _Rest:
    """Requests and answers of REST, in columnar form, for both clients.

    Over REST TensorFlow Serving knows no defaults of a signature, so that what a request leaves out is filled in from
    the model's metadata.
    """

    def __init__(self, model_name: str, label: str):
        self._path = f"/v1/models/{model_name}"
        self._versioned = f"{self._path}/labels/{label}" if label else self._path
        self._known: dict[str, Any] = {}  # the signatures' definitions, of the version that was asked last

    def _needs_metadata(self, signature: str, inputs: Mapping[str, Any]) -> bool:
        definition = self._known.get(signature)
        return definition is None or not set(inputs) <= set(definition.get("inputs", {}))

    def _body(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        defaults = self._known.get(signature, {}).get("defaults", {})
        left_out = {name: _default(value) for name, value in defaults.items() if name not in inputs}
        return {
            "signature_name": signature,
            "inputs": {**left_out, **{name: _plain(value) for name, value in inputs.items()}},
        }

    def _arrays(self, signature: str, outputs: Any) -> dict[str, np.ndarray]:
        declared = self._known[signature]["outputs"]
        if len(declared) == 1:  # a single output comes without its name
            outputs = {next(iter(declared)): outputs}
        return {name: _array(value) for name, value in outputs.items()}

    @staticmethod
    def _is_stale(error: RequestFailed) -> bool:
        """Whether another version than the one whose metadata is known may have been asked."""
        return error.code == "400" and ("named input" in str(error) or "not found in signature" in str(error))


class RestClient(_Rest):
    """Asks over REST. See `Client`."""

    def __init__(self, address: str, model_name: str, timeout: float, label: str = "", tls: Tls | None = None):
        super().__init__(model_name, label)
        self._timeout, self._http = timeout, httpx.Client(base_url=address, **_tls(tls))

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if self._needs_metadata(signature, inputs):
            self._learn()
        try:
            answer = self._ask(signature, inputs)
        except RequestFailed as error:
            if not self._is_stale(error):
                raise
            self._learn()
            answer = self._ask(signature, inputs)
        return self._arrays(signature, answer)

    def status(self) -> dict[int, str]:
        entries = self._call("GET", self._path)["model_version_status"]
        return {int(entry["version"]): entry["state"] for entry in entries}

    def signatures(self) -> dict[str, dict[str, list[str]]]:
        return _names_of(self._learn())

    def close(self) -> None:
        self._http.close()

    def _learn(self) -> dict[str, Any]:
        found = self._call("GET", f"{self._versioned}/metadata")["metadata"]["signature_def"]
        self._known = found["signature_def"]
        return found

    def _ask(self, signature: str, inputs: Mapping[str, Any]) -> Any:
        return self._call("POST", f"{self._versioned}:predict", json=self._body(signature, inputs))["outputs"]

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        deadline = _Deadline(self._timeout)

        def once() -> Any:
            response = self._http.request(method, path, timeout=deadline.left(), **arguments)
            response.raise_for_status()
            return response.json()

        try:
            return _policy(Retrying, self._timeout)(once)
        except httpx.HTTPError as error:
            raise _failed(error) from error


class AsyncRestClient(_Rest):
    """Asks over REST; its methods are awaited. See `Client`."""

    def __init__(self, address: str, model_name: str, timeout: float, label: str = "", tls: Tls | None = None):
        super().__init__(model_name, label)
        self._timeout, self._http = timeout, httpx.AsyncClient(base_url=address, **_tls(tls))

    async def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See `Client.predict`."""
        if self._needs_metadata(signature, inputs):
            await self._learn()
        try:
            answer = await self._ask(signature, inputs)
        except RequestFailed as error:
            if not self._is_stale(error):
                raise
            await self._learn()
            answer = await self._ask(signature, inputs)
        return self._arrays(signature, answer)

    async def status(self) -> dict[int, str]:
        """See `Client.status`."""
        entries = (await self._call("GET", self._path))["model_version_status"]
        return {int(entry["version"]): entry["state"] for entry in entries}

    async def signatures(self) -> dict[str, dict[str, list[str]]]:
        """See `Client.signatures`."""
        return _names_of(await self._learn())

    async def close(self) -> None:
        """Ends the connection."""
        await self._http.aclose()

    async def _learn(self) -> dict[str, Any]:
        found = (await self._call("GET", f"{self._versioned}/metadata"))["metadata"]["signature_def"]
        self._known = found["signature_def"]
        return found

    async def _ask(self, signature: str, inputs: Mapping[str, Any]) -> Any:
        answer = await self._call("POST", f"{self._versioned}:predict", json=self._body(signature, inputs))
        return answer["outputs"]

    async def _call(self, method: str, path: str, **arguments: Any) -> Any:
        deadline = _Deadline(self._timeout)

        async def once() -> Any:
            response = await self._http.request(method, path, timeout=deadline.left(), **arguments)
            response.raise_for_status()
            return response.json()

        try:
            return await _policy(AsyncRetrying, self._timeout)(once)
        except httpx.HTTPError as error:
            raise _failed(error) from error


_CHANNEL = [("grpc.max_receive_message_length", -1)]
# gRPC tensors carry their dtype; lists of Python numbers take the contract's, not NumPy's.
_INPUT_DTYPES = {name: dtype for name, (dtype, _, _) in INPUTS.items() if dtype != tf.string}


def _tls(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    return {"verify": tls.ca, **({"cert": (tls.certificate, tls.key)} if tls.key else {})}


def _default(tensor: Mapping[str, Any]) -> Any:
    """A default of a signature's metadata as JSON."""
    return _plain(tf.make_ndarray(json_format.ParseDict(tensor, tensor_pb2.TensorProto())))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _array(value: Any) -> np.ndarray:
    array = np.array(value)
    return np.char.encode(array, "utf-8").astype(object) if array.dtype.kind == "U" else array


def _names_of(definitions: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    return {
        name: {side: sorted(definition.get(side, {})) for side in ("inputs", "outputs")}
        for name, definition in definitions["signature_def"].items()
    }
