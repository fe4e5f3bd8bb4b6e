"""TensorFlow Serving's REST API over the models of a server, and the page that Prometheus reads."""

import asyncio
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import Code, ServingError, invalid, of_runtime
from serving.grpc_service import metadata_of, status_of
from serving.inference import DEFAULT_SIGNATURE, classify, example_count, predict, regress
from serving.json_tensors import (
    classification_results,
    examples_input,
    predict_inputs,
    predictions,
    regression_results,
    signature_name,
)
from serving.json_text import member, parse_object, quoted
from serving.models import Models

# http_rest_api_util.cc's.
_VERSION = r"(?:(?:/versions/(?P<version>\d+))|(?:/labels/(?P<label>[^/:]+)))?"
_ASK = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE)
_TELL = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<what>metadata))?", re.IGNORECASE)
_JSON, _TEXT = "application/json", "text/plain"
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


@dataclass(frozen=True)
class RestOptions:
    """How the REST API is served.

    Attributes:
      threads: requests that are answered at a time.
      timeout_ms: after which a request is given up.
      cors: whether pages of other origins may ask.
      metrics_path: of the page for Prometheus; there is none where empty.
      most_bytes: of a request's body.
    """

    threads: int = 16
    timeout_ms: int = 30_000
    cors: bool = False
    metrics_path: str = ""
    most_bytes: int = 64 << 20


def rest_app(models: Models, options: RestOptions, others: Sequence[Route] = ()) -> Starlette:
    """The application; every body is JSON, errors are `{"error": …}`. `others` come before the API."""
    pool = ThreadPoolExecutor(options.threads, thread_name_prefix="rest")

    async def endpoint(request: Request) -> Response:
        path = request.scope["raw_path"].decode("latin-1") if "raw_path" in request.scope else request.url.path
        path = path.split("?")[0]
        if options.metrics_path and path == options.metrics_path:
            return Response(models.metrics.page(), media_type=_TEXT)
        if not path.lower().startswith("/v1/"):
            return Response("Not Found", status_code=404, media_type=_TEXT)
        try:
            body = await _read(request, options.most_bytes)
        except ServingError as error:
            return _refusal(error, options)
        if request.method == "OPTIONS":
            return _preflight(request, options)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, _respond, models, request.method, path, body, options)

    methods = ["GET", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "HEAD"]
    return Starlette(routes=[*others, Route("/{path:path}", endpoint, methods=methods)])


async def _read(request: Request, most: int) -> bytes:
    """The body. Raises ServingError where it is too large, before all of it is there."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise ServingError(Code.RESOURCE_EXHAUSTED, f"the request has more than {most} bytes")
        parts.append(part)
    return b"".join(parts)


def _preflight(request: Request, options: RestOptions) -> Response:
    if re.match("https?://", request.headers.get("origin", "")):
        return Response("", headers=_CORS if options.cors else {}, media_type=_JSON)
    error = ServingError(Code.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")
    return _refusal(error, options)


def _refusal(error: ServingError, options: RestOptions) -> Response:
    text = member("error", quoted(str(error)))
    return Response(text, error.http_status, _CORS if options.cors else {}, media_type=_JSON)


def _respond(models: Models, http_method: str, path: str, body: bytes, options: RestOptions) -> Response:
    start, name, method = time.perf_counter(), "", ""
    try:
        pattern = {"POST": _ASK, "GET": _TELL}.get(http_method)
        found = pattern.fullmatch(path) if pattern else None
        if found is None:
            raise invalid(f"Malformed request: {http_method} {path}")
        asked = found.groupdict()
        name, method = unquote(asked["name"] or ""), asked.get("method", "")
        label = unquote(asked["label"]) if asked["label"] else None
        version = None if asked["version"] is None else _number(asked["version"])
        if http_method == "GET":
            text = _tell(models, name, version, label, is_metadata=(asked["what"] or "") == "metadata")
        else:
            text = _ask(models, name, version, label, method, body, options.timeout_ms)
    except ServingError as error:
        refused = error
    except Exception as error:
        refused = of_runtime(error)
    else:
        models.metrics.requests.add(name, "OK")
        models.metrics.request_latency.add(name, method, "REST", value=1e6 * (time.perf_counter() - start))
        return Response(text, headers=_CORS if options.cors else {}, media_type=_JSON)
    models.metrics.requests.add(name, refused.code.name)
    return _refusal(refused, options)


def _number(text: str) -> int:
    if int(text) >= 2**63:
        raise invalid(f"Failed to convert version: {text} to numeric.")
    return int(text)


def _tell(models: Models, name: str, version: int | None, label: str | None, is_metadata: bool) -> str:
    if not name:
        raise invalid("Missing model name in request.")
    if not is_metadata:
        return _json(status_of(models, name, version))
    loaded = models.get(name, version, label)
    spec = f'{{"name": {quoted(name)}, "signature_name": "", "version": "{loaded.number}"}}'
    return f'{{\n"model_spec":{spec},\n"metadata": {{"signature_def": {_json(metadata_of(loaded))}}}\n}}\n'


def _json(message: Any) -> str:
    return json_format.MessageToJson(message, preserving_proto_field_name=True, including_default_value_fields=True)


def _ask(
    models: Models,
    name: str,
    number: int | None,
    label: str | None,
    method: str,
    body: bytes,
    timeout_ms: int,
) -> str:
    api = method.capitalize()
    if method == "predict":
        request = parse_object(body)
        signature = signature_name(request)
        version = models.version(name, number, label, timeout_ms=timeout_ms, api=api)
        told = signature or DEFAULT_SIGNATURE
        if told not in version.definitions:
            raise invalid(f'Serving signature name: "{told}" not found in signature def')
        inputs, in_rows = predict_inputs(request, version.definitions[told].inputs)
        return predictions(predict(version, signature, inputs), in_rows)
    request = parse_object(body)
    signature, given = signature_name(request), examples_input(request)
    version = models.version(name, number, label, timeout_ms=timeout_ms, api=api)
    if method == "classify":
        answer = classification_results(classify(version, signature, given))
    elif method == "regress":
        answer = regression_results(regress(version, signature, given))
    else:
        raise invalid(f"Malformed request: POST {method}")
    models.count_examples(name, example_count(given))
    return answer
