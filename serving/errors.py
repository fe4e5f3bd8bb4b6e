"""What a request can be refused with: TensorFlow Serving's status codes, on both protocols."""

import re

import grpc
import tensorflow as tf

from schema.errors import HomefeedError

Code = grpc.StatusCode
# Codes as the REST API answers with them, http_server.cc's `ToHTTPStatusCode`; 500 for all others.
_HTTP = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
_NODE = re.compile(r"\A(Detected at node .*\n)?(Node: .*\n)?")
_BY_NUMBER = {code.value[0]: code for code in Code}


class ServingError(HomefeedError):
    """A request that is refused.

    Attributes:
      code: the gRPC status code.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code

    @property
    def http_status(self) -> int:
        """The status that the REST API answers with."""
        return _HTTP.get(self.code, 500)


def invalid(message: str) -> ServingError:
    """The request is malformed."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """What the request asks for is not served."""
    return ServingError(Code.NOT_FOUND, message)


def not_served(name: str, version: int | None) -> ServingError:
    """No version of a model, or not this one, can answer."""
    which = f"Specific({name}, {version})" if version is not None else f"Latest({name})"
    return not_found(f"Servable not found for request: {which}")


def not_met(name: str, version: int | None) -> ServingError:
    """No version of a model, or not this one, was ever met."""
    which = f"version {version} of model" if version is not None else "any versions of model"
    return not_found(f"Could not find {which} {name}")


def unknown_label(label: str) -> ServingError:
    """No version has the label."""
    return invalid(f"Unrecognized servable version label: {label}")


def of_runtime(error: Exception) -> ServingError:
    """What TensorFlow said of a request while it ran it: the code is its own, the message its own first lines."""
    words = str(error).removeprefix("Graph execution error:").strip()
    words = words.split("\n\nErrors may have originated")[0].split("\n\nOriginal stack trace")[0]
    words = _NODE.sub("", words)  # where the graph was made: of no use to who asks
    if isinstance(error, tf.errors.OpError):
        return ServingError(_BY_NUMBER.get(error.error_code, Code.UNKNOWN), words)
    return invalid(words)
