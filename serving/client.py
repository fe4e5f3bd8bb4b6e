"""One API over gRPC and REST, sync and async, for the embedded server and for TensorFlow Serving alike."""

from collections.abc import Mapping
from typing import Any, Protocol

import grpc
import numpy as np

from serving.calls import RequestFailed, Tls
from serving.grpc_client import AsyncGrpcClient, GrpcClient
from serving.rest_client import AsyncRestClient, RestClient

__all__ = ["Client", "RequestFailed", "Tls", "connect", "connect_async"]


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
) -> AsyncGrpcClient | AsyncRestClient:
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
