"""What both protocols' clients share: deadlines, what is sent again, failures and TLS.

Every request has a deadline, which its retries share. Sent again, with growing pauses, is what no server can have
answered: the connection was refused, or the answer was UNAVAILABLE.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
from tenacity import retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from schema.errors import HomefeedError

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


def policy(retrying: Any, timeout: float) -> Any:
    """How a request is sent again: tenacity's `Retrying` or `AsyncRetrying`, for so many seconds at most."""
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


def failed(error: Exception) -> RequestFailed:
    """What a library raised, in the words of the server where it has answered."""
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


class Deadline:
    """What is left of a request's time."""

    def __init__(self, seconds: float):
        self._until = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds; more than 0."""
        return max(self._until - time.monotonic(), 0.001)


def names_of(definitions: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Signature -> {"inputs": names, "outputs": names}, of a model's metadata as JSON."""
    return {
        name: {side: sorted(definition.get(side, {})) for side in ("inputs", "outputs")}
        for name, definition in definitions["signature_def"].items()
    }
