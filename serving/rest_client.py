"""Asks over REST, sync and async. See `serving.client`."""

from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tenacity import AsyncRetrying, Retrying
from tensorflow.core.framework import tensor_pb2

from serving.calls import Deadline, RequestFailed, Tls, failed, names_of, policy


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
        return names_of(self._learn())

    def close(self) -> None:
        self._http.close()

    def _learn(self) -> dict[str, Any]:
        found = self._call("GET", f"{self._versioned}/metadata")["metadata"]["signature_def"]
        self._known = found["signature_def"]
        return found

    def _ask(self, signature: str, inputs: Mapping[str, Any]) -> Any:
        return self._call("POST", f"{self._versioned}:predict", json=self._body(signature, inputs))["outputs"]

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        deadline = Deadline(self._timeout)

        def once() -> Any:
            response = self._http.request(method, path, timeout=deadline.left(), **arguments)
            response.raise_for_status()
            return response.json()

        try:
            return policy(Retrying, self._timeout)(once)
        except httpx.HTTPError as error:
            raise failed(error) from error


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
        return names_of(await self._learn())

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
        deadline = Deadline(self._timeout)

        async def once() -> Any:
            response = await self._http.request(method, path, timeout=deadline.left(), **arguments)
            response.raise_for_status()
            return response.json()

        try:
            return await policy(AsyncRetrying, self._timeout)(once)
        except httpx.HTTPError as error:
            raise failed(error) from error


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
