"""The standard gRPC health service (grpc.health.v1), which load balancers and Kubernetes ask."""

from collections.abc import Callable
from typing import Any

import grpc

from serving.messages import message_classes

_SERVICES = ("", "ModelService", "PredictionService")
SERVING, NOT_SERVING = 1, 2


# Its enumeration of states travels as an int32 does.
_MADE = message_classes(
    "grpc.health.v1",
    {"HealthCheckRequest": [("service", 1, "string")], "HealthCheckResponse": [("status", 1, "int32")]},
)
HealthCheckRequest, HealthCheckResponse = _MADE["HealthCheckRequest"], _MADE["HealthCheckResponse"]


def health_handler(is_serving: Callable[[], bool]) -> grpc.GenericRpcHandler:
    """The service's method Check, which tells whether a server serves."""

    async def check(request: Any, context: grpc.aio.ServicerContext) -> Any:
        if request.service not in _SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service}")
        return HealthCheckResponse(status=SERVING if is_serving() else NOT_SERVING)

    handler = grpc.unary_unary_rpc_method_handler(
        check, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
    )
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})
