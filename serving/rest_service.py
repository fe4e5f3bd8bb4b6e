"""TensorFlow Serving's REST API over a `VersionedModel`: predict in row and columnar form, metadata, status."""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from schema.errors import InputError
from schema.saved_model import ServableModel
from serving.predict import DEFAULT_SIGNATURE, predict
from serving.versions import NotServed, UnknownLabel, VersionedModel

_BYTES_SUFFIX = "_bytes"  # outputs called so are base64 in JSON, as TensorFlow Serving has it


def rest_app(model: VersionedModel) -> Starlette:
    """The application; every body is JSON, errors are `{"error": …}`."""

    async def on_predict(request: Request) -> Any:
        body = _json(await request.body())
        _, servable = model.get(**request.path_params)
        return await run_in_threadpool(predict_json, servable, body)

    async def on_status(request: Request) -> Any:
        statuses = model.statuses(**request.path_params)
        return {
            "model_version_status": [
                {
                    "version": str(s.version),
                    "state": s.state,
                    "status": {"error_code": "UNKNOWN" if s.error else "OK", "error_message": s.error},
                }
                for s in statuses
            ]
        }

    async def on_metadata(request: Request) -> Any:
        version, servable = model.get(**request.path_params)
        definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        fields = json_format.MessageToDict(
            definitions, preserving_proto_field_name=True, including_default_value_fields=True
        )
        return {
            "model_spec": {"name": model.name, "signature_name": "", "version": str(version)},
            "metadata": {"signature_def": fields},
        }

    routes = []
    for which in ("", "/versions/{version:int}", "/labels/{label}"):
        prefix = "/v1/models/{name}" + which
        routes += [
            Route(f"{prefix}:predict", _endpoint(on_predict), methods=["POST"]),
            Route(f"{prefix}/metadata", _endpoint(on_metadata), methods=["GET"]),
            Route(prefix, _endpoint(on_status), methods=["GET"]),
        ]
    return Starlette(routes=routes)


def _endpoint(handler: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return _respond(200, await handler(request))
        except NotServed as error:
            return _respond(404, {"error": str(error)})
        except (InputError, UnknownLabel) as error:
            return _respond(400, {"error": str(error)})

    return endpoint


def _respond(status: int, body: Any) -> Response:
    return Response(json.dumps(body, indent=1), status_code=status, media_type="application/json")


def _json(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"JSON Parse error: {error}") from error
    if not isinstance(parsed, dict):
        raise InputError("JSON Value: is not object")
    return parsed


def predict_json(model: ServableModel, body: dict[str, Any]) -> dict[str, Any]:
    """Answers a predict request's JSON.

    Raises:
      InputError: the request is neither of row nor of columnar form, or its values do not fit the signature.
    """
    signature = body.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(signature, str):
        raise InputError("signature_name: is not a string")
    definition = model.signature_defs.get(signature)
    if definition is None:
        raise InputError(f'Serving signature name: "{signature}" not found in signature def')
    if ("instances" in body) == ("inputs" in body):
        raise InputError('JSON Value: needs one of "instances" (row form) and "inputs" (columnar form)')
    if "inputs" in body:
        outputs = predict(model, signature, _columns(body["inputs"], definition))
        values = {name: _to_json(name, array) for name, array in outputs.items()}
        return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    outputs = predict(model, signature, _rows(body["instances"], definition))
    columns = {name: _to_json(name, array) for name, array in outputs.items()}
    sizes = {len(column) if isinstance(column, list) else 0 for column in columns.values()}
    if len(sizes) != 1:
        raise InputError("outputs have different numbers of rows; ask in columnar form")
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _columns(inputs: Any, definition: meta_graph_pb2.SignatureDef) -> dict[str, np.ndarray]:
    if not isinstance(inputs, dict) or _is_b64(inputs):
        if len(definition.inputs) != 1:
            raise InputError('"inputs" has to be an object that names the inputs')
        inputs = {next(iter(definition.inputs)): inputs}
    return {name: _to_array(name, value, definition) for name, value in inputs.items()}


def _rows(instances: Any, definition: meta_graph_pb2.SignatureDef) -> dict[str, np.ndarray]:
    if not isinstance(instances, list) or not instances:
        raise InputError('"instances" has to be a list that is not empty')
    if not all(isinstance(row, dict) and not _is_b64(row) for row in instances):
        if len(definition.inputs) != 1 and len(definition.inputs) - len(definition.defaults) != 1:
            raise InputError('"instances" has to be a list of objects that name the inputs')
        required = [name for name in definition.inputs if name not in definition.defaults]
        name = required[0] if required else next(iter(definition.inputs))
        return {name: _to_array(name, instances, definition)}
    keys = instances[0].keys()
    if any(row.keys() != keys for row in instances):
        raise InputError("instances have different inputs; all rows need the same")
    return {name: _to_array(name, [row[name] for row in instances], definition) for name in keys}


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _to_array(name: str, value: Any, definition: meta_graph_pb2.SignatureDef) -> np.ndarray:
    if name not in definition.inputs:
        raise InputError(f"JSON object: does not have named input: {name}")
    dtype = tf.dtypes.as_dtype(definition.inputs[name].dtype)
    shape = _shape(name, value)
    flat: list[Any] = []
    _flatten(name, value, len(shape), dtype, flat)
    array = np.array(flat, object if dtype == tf.string else dtype.as_numpy_dtype)
    if array.size != np.prod(shape, dtype=int):
        raise InputError(f"input {name}: lists of one level have different lengths.")
    return array.reshape(shape)


def _shape(name: str, value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > 8:
            raise InputError(f"input {name}: is nested too deeply.")
        if not value:
            break
        value = value[0]
    return shape


def _flatten(name: str, value: Any, depth: int, dtype: tf.DType, into: list[Any]) -> None:
    if isinstance(value, list):
        if depth == 0:
            raise InputError(f"input {name}: lists of one level have different depths.")
        for part in value:
            _flatten(name, part, depth - 1, dtype, into)
        return
    if depth:
        raise InputError(f"input {name}: lists of one level have different depths.")
    into.append(_scalar(name, value, dtype))


def _scalar(name: str, value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, str):
            return value.encode()
        if _is_b64(value):
            try:
                return base64.b64decode(value["b64"], validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise InputError(f"input {name}: is not base64 ({error}).") from error
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif dtype.is_integer:
        if isinstance(value, int) and not isinstance(value, bool):
            if not dtype.min <= value <= dtype.max:
                raise InputError(f"input {name}: {value} does not fit {dtype.name}.")
            return value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise InputError(
        f"JSON Value: {json.dumps(value)[:80]} Type: {type(value).__name__} is not of expected type: {dtype.name}"
    )


def _to_json(name: str, array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()
    if name.endswith(_BYTES_SUFFIX):
        return _map(array.tolist(), lambda value: {"b64": base64.b64encode(value).decode()})
    return _map(array.tolist(), lambda value: value.decode("utf-8", "replace"))


def _map(value: Any, function: Callable[[bytes], Any]) -> Any:
    return [_map(part, function) for part in value] if isinstance(value, list) else function(value)
