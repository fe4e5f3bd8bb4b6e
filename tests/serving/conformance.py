"""What TensorFlow Serving's published API says of requests and their answers, as cases for any server.

From its documentation (RESTful API; the proto files of PredictionService and ModelService) and the sources that it is
made of (json_tensor.cc, http_rest_api_util.cc, predict_util.cc, classifier.cc, regressor.cc). The model is
half_plus_two.py's, served as `half` in versions 1 and 2, with the labels `stable` (1) and `canary` (2).
"""

import json
import math
from typing import Any, NamedTuple

MODEL = "half"


class Rest(NamedTuple):
    """A request and what is expected: `answer` (JSON), or `words` that the error holds."""

    name: str
    method: str
    path: str
    body: Any = None
    status: int = 200
    answer: Any = None
    words: str = ""

    def __str__(self) -> str:
        return f"REST: {self.name}"


def _ask(name, body, answer=None, words="", status=None, path=f"/v1/models/{MODEL}:predict"):
    return Rest(name, "POST", path, body, status or (400 if words else 200), answer, words)


def _signature(signature, **body):
    return {"signature_name": signature, **body}


_VALUES = {
    "float": [0.5, -2, 1e10],
    "double": [0.1, -2, 1e300],
    "int32": [0, -(2**31), 2**31 - 1],
    "int64": [0, -(2**63), 2**63 - 1],
    "int16": [0, -32768, 32767],
    "int8": [0, -128, 127],
    "uint8": [0, 255, 7],
    "uint32": [0, 2**32 - 1, 7],
    "uint64": [0, 2**64 - 1, 7],
    "bool": [True, False, True],
    "string": ["a", "", "杯子 ☕"],
}
# What is no value of the dtype -> the words of the type in the error.
_WRONG = {
    "float": ("a", True, None, {"x": 1}),
    "double": ("a", False, None),
    "int32": (1.5, "1", True, 2**31, None),
    "int64": (1.5, "1", False, 2**63),
    "int16": (1.5, "1"),
    "int8": (1.5, "1"),
    "uint8": (1.5, "1"),
    "uint32": (-1, 2**32, 1.5),
    "uint64": (-1, 1.5),
    "bool": (1, "true", 0.0),
    "string": (1, True, 1.5, None),
}
_TYPES = {str: "String", bool: None, float: "Number", int: "Number", dict: "Object", type(None): "Null"}


def _type(value):
    return str(value) if isinstance(value, bool) else _TYPES[type(value)]


def _dtype_cases():
    for dtype, values in _VALUES.items():
        row = _signature(f"echo_{dtype}", instances=values)
        yield _ask(f"{dtype} in rows", row, {"predictions": values})
        named = _signature(f"echo_{dtype}", instances=[{"value": value} for value in values])
        yield _ask(f"{dtype} in named rows", named, {"predictions": values})
        yield _ask(f"{dtype} in columns", _signature(f"echo_{dtype}", inputs=values), {"outputs": values})
        named = _signature(f"echo_{dtype}", inputs={"value": values})
        yield _ask(f"{dtype} in a named column", named, {"outputs": values})
    for dtype, wrong in _WRONG.items():
        for value in wrong:
            words = f"Type: {_type(value)} is not of expected type: {dtype}"
            if isinstance(value, dict):
                words = "is not of expected type" if dtype != "string" else "not formatted correctly for base64 data"
            body = _signature(f"echo_{dtype}", inputs=[value])
            yield _ask(f"{json.dumps(value)} is no {dtype}", body, words=words)


_ALL = {name: values[0] for name, values in _VALUES.items()}

REST_CASES = [
    # --- predict, in rows
    _ask("scalars", {"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}),
    _ask("whole numbers are floats too", {"instances": [1, 2]}, {"predictions": [2.5, 3.0]}),
    _ask("named rows", {"instances": [{"x": 1.0}, {"x": 2.0}]}, {"predictions": [2.5, 3.0]}),
    _ask("the default signature by name", _signature("serving_default", instances=[1.0]), {"predictions": [2.5]}),
    _ask("an empty signature name", _signature("", instances=[1.0]), {"predictions": [2.5]}),
    _ask("lists", _signature("matrix", instances=[[1, 2], [3, 4]]), {"predictions": [[2, 4], [6, 8]]}),
    _ask(
        "several inputs and outputs",
        _signature("two", instances=[{"x": 1, "text": "a"}, {"x": 2, "text": "b"}]),
        {"predictions": [{"y": 2.5, "text": "a"}, {"y": 3.0, "text": "b"}]},
    ),
    _ask("all types at once", _signature("echo", instances=[_ALL]), {"predictions": [_ALL]}),
    _ask("other keys are not looked at", {"instances": [1.0], "more": 1}, {"predictions": [2.5]}),
    _ask("NaN and Infinity", '{"instances": [NaN, Infinity, -Infinity]}', "[NaN, Infinity, -Infinity\n    ]"),
    _ask("what comes after the object", '{"instances": [1.0]} and more', {"predictions": [2.5]}),
    _ask("white space around", ' \n{"instances" : [ 1.0 ] }\n', {"predictions": [2.5]}),
    _ask("base64", _signature("echo_string", instances=[{"b64": "YcOp"}]), {"predictions": ["aé"]}),
    _ask(
        "base64 in a named row",
        _signature("echo_string", instances=[{"value": {"b64": "YQ=="}}]),
        {"predictions": ["a"]},
    ),
    _ask(
        "bytes go out as base64",
        _signature("echo_bytes", instances=[{"b64": "/wA="}]),
        {"predictions": [{"b64": "/wA="}]},
    ),
    _ask("text to bytes", _signature("echo_bytes", instances=["a"]), {"predictions": [{"b64": "YQ=="}]}),
    _ask(
        "escapes", '{"signature_name": "echo_string", "instances": ["\\u00e9\\n\\"\\\\"]}', {"predictions": ['é\n"\\']}
    ),
    # --- predict, in columns
    _ask("a column", {"inputs": [1.0, 2.0]}, {"outputs": [2.5, 3.0]}),
    _ask("a named column", {"inputs": {"x": [1.0, 2.0]}}, {"outputs": [2.5, 3.0]}),
    _ask("a scalar", _signature("scalar", inputs=1.0), {"outputs": 2.5}),
    _ask("a named scalar", _signature("scalar", inputs={"value": 3}), {"outputs": 3.5}),
    _ask("a matrix", _signature("matrix", inputs=[[1, 2], [3, 4]]), {"outputs": [[2, 4], [6, 8]]}),
    _ask(
        "outputs of several shapes",
        _signature("sum", inputs=[[1, 2], [3, 4]]),
        {"outputs": {"rows": [3, 7], "total": 10}},
    ),
    _ask(
        "several columns",
        _signature("two", inputs={"x": [1, 2], "text": ["a", "b"]}),
        {"outputs": {"y": [2.5, 3.0], "text": ["a", "b"]}},
    ),
    _ask("an empty column", _signature("echo_float", inputs=[]), {"outputs": []}),
    _ask("base64 in a column", _signature("echo_bytes", inputs=[{"b64": "/wA="}]), {"outputs": [{"b64": "/wA="}]}),
    _ask(
        "all types in columns",
        _signature("echo", inputs={n: [v] for n, v in _ALL.items()}),
        {"outputs": {n: [v] for n, v in _ALL.items()}},
    ),
    *_dtype_cases(),
    # --- what is wrong with a body
    _ask("no body", "", words="JSON Parse error: The document is empty"),
    _ask("white space only", "  ", words="JSON Parse error: The document is empty"),
    _ask("no JSON", "nonsense", words="JSON Parse error: Invalid value. at offset: 0"),
    _ask(
        "cut off in a list",
        '{"instances": [1.0',
        words="JSON Parse error: Missing a comma or ] after an array element.",
    ),
    _ask(
        "cut off in an object",
        '{"instances": [1.0]',
        words="JSON Parse error: Missing a comma or } after an object member.",
    ),
    _ask(
        "cut off in a string",
        '{"instances": ["a',
        words="JSON Parse error: Missing a closing quotation mark in string.",
    ),
    _ask("a member without a name", "{1: 2}", words="JSON Parse error: Missing a name for object member."),
    _ask(
        "a member without a colon",
        '{"instances" [1]}',
        words="JSON Parse error: Missing a colon after a name of object member.",
    ),
    _ask("a wrong escape", '{"instances": ["\\x"]}', words="JSON Parse error: Invalid escape character in string."),
    _ask("a list", "[1.0]", words="Is not object"),
    _ask("a number", "1", words="Is not object"),
    _ask("null", "null", words="Is not object"),
    _ask("an empty object", {}, words="Missing 'inputs' or 'instances' key"),
    _ask("both forms", {"instances": [1], "inputs": [1]}, words="expecting only one of 'inputs' or 'instances' keys"),
    _ask("instances that are no list", {"instances": 1.0}, words="Expecting 'instances' to be an list/array"),
    _ask("instances that are an object", {"instances": {"x": 1.0}}, words="Expecting 'instances' to be an list/array"),
    _ask("no instances", {"instances": []}, words="No values in 'instances' array"),
    _ask(
        "a signature name that is a number",
        {"signature_name": 5, "instances": [1]},
        words="'signature_name' key must be a string value.",
    ),
    _ask(
        "an unknown signature",
        _signature("none", instances=[1]),
        words='Serving signature name: "none" not found in signature def',
    ),
    # --- what is wrong with rows
    _ask(
        "rows without names for several inputs",
        _signature("two", instances=[1.0]),
        words="instances is a plain list, but expecting list of objects",
    ),
    _ask(
        "a row of another form",
        {"instances": [{"x": 1.0}, 1.0]},
        words="Expecting object but got list at item 1 of input list",
    ),
    _ask(
        "a row of another form, the other way",
        {"instances": [1.0, {"x": 1.0}]},
        words="Expecting value/list but got object at item 1 of input list",
    ),
    _ask("an unknown input", {"instances": [{"z": 1.0}]}, words="JSON object: does not have named input: z"),
    _ask("a missing input", _signature("two", instances=[{"x": 1}]), words="keys must be equal to: text,x"),
    _ask(
        "a missing input in a later row",
        _signature("two", instances=[{"x": 1, "text": "a"}, {"x": 1}]),
        words="Failed to process element: 1 of 'instances' list.",
    ),
    _ask(
        "rows of different sizes",
        _signature("matrix", instances=[[1, 2], [3]]),
        words="Expecting tensor size: 2 but got: 1",
    ),
    _ask(
        "rows of different shapes",
        _signature("matrix", instances=[[1, 2], [[3, 4]]]),
        words="Expecting shape [2] but got: [1,2]",
    ),
    _ask(
        "lists of different lengths",
        _signature("matrix", instances=[[[1, 2], [3]]]),
        words="Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    _ask(
        "a value where a list is due",
        _signature("matrix", instances=[[[1, 2], 3]]),
        words="found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
    ),
    _ask(
        "a list where a value is due",
        _signature("matrix", instances=[[1, [2]]]),
        words="Encountered list at unexpected level: 1 expected < 1",
    ),
    _ask(
        "the row's number is told",
        {"instances": [1.0, "a"]},
        words="Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT",
    ),
    _ask(
        "the row's key is told",
        {"instances": [{"x": "a"}]},
        words="Failed to process element: 0 key: x of 'instances' list.",
    ),
    _ask("a tensor of a wrong shape", _signature("matrix", instances=[[1, 2, 3]]), words="shape"),
    # --- what is wrong with columns
    _ask(
        "a column without a name for several inputs",
        _signature("two", inputs=[1.0]),
        words="inputs is a plain value/list, but expecting an object",
    ),
    _ask(
        "a missing column",
        _signature("two", inputs={"x": [1.0]}),
        words="Missing named input: text in 'inputs' object.",
    ),
    _ask("columns of a wrong rank", {"inputs": [[1.0]]}, words="shape"),
    _ask("base64 that is none", _signature("echo_string", inputs=[{"b64": "?"}]), words="Unable to base64 decode"),
    _ask(
        "base64 of a number",
        _signature("echo_string", inputs=[{"b64": 1}]),
        words="not formatted correctly for base64 data",
    ),
    _ask(
        "base64 with another key",
        _signature("echo_string", inputs=[{"b64": "YQ==", "x": 1}]),
        words="not formatted correctly for base64 data",
    ),
    _ask("a type that JSON has not", _signature("echo_half", inputs=[1.0]), words="to type: half", status=501),
    _ask("outputs without rows", _signature("sum", instances=[[1, 2]]), words="has no shape information"),
    _ask("what TensorFlow refuses", _signature("fails", instances=[0.0]), words="not a number"),
    # --- versions, labels, paths
    _ask("a version", {"instances": [1.0]}, {"predictions": [2.5]}, path=f"/v1/models/{MODEL}/versions/1:predict"),
    _ask("another version", {"instances": [1.0]}, {"predictions": [3.5]}, path="/v1/models/three/versions/1:predict"),
    _ask("a label", {"instances": [1.0]}, {"predictions": [2.5]}, path=f"/v1/models/{MODEL}/labels/canary:predict"),
    _ask("upper case in the path", {"instances": [1.0]}, {"predictions": [2.5]}, path=f"/V1/MODELS/{MODEL}:predict"),
    _ask(
        "an unknown model",
        {"instances": [1]},
        words="Servable not found for request: Latest(none)",
        status=404,
        path="/v1/models/none:predict",
    ),
    _ask(
        "an unknown version",
        {"instances": [1]},
        words=f"Servable not found for request: Specific({MODEL}, 9)",
        status=404,
        path=f"/v1/models/{MODEL}/versions/9:predict",
    ),
    _ask(
        "an unknown label",
        {"instances": [1]},
        words="Unrecognized servable version label: none",
        path=f"/v1/models/{MODEL}/labels/none:predict",
    ),
    _ask(
        "an unknown method",
        {"instances": [1]},
        words=f"Malformed request: POST /v1/models/{MODEL}:explain",
        path=f"/v1/models/{MODEL}:explain",
    ),
    _ask(
        "no method", {"instances": [1]}, words=f"Malformed request: POST /v1/models/{MODEL}", path=f"/v1/models/{MODEL}"
    ),
    _ask(
        "a version that is no number",
        {"instances": [1]},
        words="Malformed request: POST",
        path=f"/v1/models/{MODEL}/versions/one:predict",
    ),
    _ask(
        "a version of too many digits",
        {"instances": [1]},
        words="Failed to convert version: 99999999999999999999 to numeric.",
        path=f"/v1/models/{MODEL}/versions/99999999999999999999:predict",
    ),
    Rest("a predict request by GET", "GET", f"/v1/models/{MODEL}:predict", None, 400, None, "Malformed request: GET"),
    Rest("another method of HTTP", "PUT", f"/v1/models/{MODEL}:predict", "{}", 400, None, "Malformed request: PUT"),
    # --- classify and regress
    *(
        _ask(name, body, answer, words, path=f"/v1/models/{MODEL}:{method}")
        for name, method, body, answer, words in [
            (
                "regress",
                "regress",
                _signature("regress_x_to_y", examples=[{"x": 1.0}, {"x": 2.0}]),
                {"results": [2.5, 3.0]},
                "",
            ),
            (
                "regress another output",
                "regress",
                _signature("regress_x_to_y2", examples=[{"x": 1.0}]),
                {"results": [3.5]},
                "",
            ),
            ("regress lists", "regress", _signature("regress_x_to_y", examples=[{"x": [1.0]}]), {"results": [2.5]}, ""),
            (
                "regress with a default feature",
                "regress",
                _signature("regress_x2_to_y3", examples=[{"x": 1.0}]),
                {"results": [3.0]},
                "",
            ),
            (
                "regress with a context",
                "regress",
                _signature("regress_x_to_y", context={"x": 4.0}, examples=[{"x2": 1.0}]),
                {"results": [4.0]},
                "",
            ),
            (
                "regress an output that is too wide",
                "regress",
                _signature("regress_wide", examples=[{"x": 1.0}]),
                None,
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]",
            ),
            (
                "regress without examples",
                "regress",
                _signature("regress_x_to_y"),
                None,
                "key 'examples' is expected and was not found",
            ),
            (
                "regress no examples",
                "regress",
                _signature("regress_x_to_y", examples=[]),
                None,
                "'examples' value is an empty array",
            ),
            (
                "regress examples that are no list",
                "regress",
                _signature("regress_x_to_y", examples={"x": 1.0}),
                None,
                "Expecting 'examples' value to be an list/array",
            ),
            (
                "regress an example that is no object",
                "regress",
                _signature("regress_x_to_y", examples=[1.0]),
                None,
                "Example must be JSON object but got JSON Number",
            ),
            (
                "regress a context that is no object",
                "regress",
                _signature("regress_x_to_y", context=1, examples=[{"x": 1.0}]),
                None,
                "Example must be JSON object but got JSON Number",
            ),
            (
                "regress a feature of nothing",
                "regress",
                _signature("regress_x_to_y", examples=[{"x": None}]),
                None,
                "Feature: x has element with unexpected JSON type: Null",
            ),
            (
                "regress a feature of lists",
                "regress",
                _signature("regress_x_to_y", examples=[{"x": [[1.0]]}]),
                None,
                "Feature: x has element with unexpected JSON type: Array",
            ),
            (
                "regress a feature of objects",
                "regress",
                _signature("regress_x_to_y", examples=[{"x": {"y": 1}}]),
                None,
                "Feature: x has element with unexpected JSON type: Object",
            ),
            (
                "regress a feature of two types",
                "regress",
                _signature("regress_x_to_y", examples=[{"x": [1.0, "a"]}]),
                None,
                "Unexpected element type in feature: x expecting type: float",
            ),
            (
                "regress a feature of a wrong type",
                "regress",
                _signature("regress_x_to_y", examples=[{"x": "a"}]),
                None,
                "Data types don't match",
            ),
            (
                "regress a feature that is too large",
                "regress",
                _signature("regress_x_to_y", examples=[{"x": 2**63}]),
                None,
                "Feature: x has uint64_t element. Only int64_t is supported.",
            ),
            ("regress a missing feature", "regress", _signature("regress_x_to_y", examples=[{}]), None, "x"),
            (
                "regress by an unknown signature",
                "regress",
                _signature("none", examples=[{"x": 1.0}]),
                None,
                "No signature was found with the name: none",
            ),
            (
                "regress by the default signature",
                "regress",
                {"examples": [{"x": 1.0}]},
                None,
                "No regression inputs found in SignatureDef",
            ),
            (
                "regress by a signature of several inputs",
                "regress",
                _signature("two", examples=[{"x": 1.0}]),
                None,
                "Expected one input Tensor.",
            ),
            ("regress a list", "regress", [1], None, "Is not object"),
            (
                "classify",
                "classify",
                _signature("classify_x_to_y", examples=[{"x": 1.0}, {"x": 2.0}]),
                {"results": [[["", 2.5]], [["", 3.0]]]},
                "",
            ),
            (
                "classify with labels",
                "classify",
                _signature("classify_labels", examples=[{"x": 1.0}]),
                {"results": [[["2.5", 2.5], ["3.5", 3.5]]]},
                "",
            ),
            (
                "classify with a context",
                "classify",
                _signature("classify_x_to_y", context={"x": 4.0}, examples=[{}]),
                {"results": [[["", 4.0]]]},
                "",
            ),
            (
                "classify without examples",
                "classify",
                _signature("classify_x_to_y"),
                None,
                "key 'examples' is expected and was not found",
            ),
            (
                "classify no examples",
                "classify",
                _signature("classify_x_to_y", examples=[]),
                None,
                "'examples' value is an empty array",
            ),
            (
                "classify by an unknown signature",
                "classify",
                _signature("none", examples=[{"x": 1.0}]),
                None,
                "No signature was found with the name: none",
            ),
            (
                "classify by a signature that regresses",
                "classify",
                _signature("regress_x_to_y", examples=[{"x": 1.0}]),
                None,
                "Expected classification signature outputs to contain at least one of",
            ),
            (
                "classify with a signature name that is none",
                "classify",
                _signature(None, examples=[{"x": 1.0}]),
                None,
                "'signature_name' key must be a string value.",
            ),
        ]
    ),
    # --- status and metadata
    Rest(
        "the status of a model",
        "GET",
        f"/v1/models/{MODEL}",
        None,
        200,
        {
            "model_version_status": [
                {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
                {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
            ]
        },
    ),
    Rest(
        "the status of a version",
        "GET",
        f"/v1/models/{MODEL}/versions/1",
        None,
        200,
        {
            "model_version_status": [
                {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            ]
        },
    ),
    Rest(
        "the status of an unknown model",
        "GET",
        "/v1/models/none",
        None,
        404,
        None,
        "Could not find any versions of model none",
    ),
    Rest(
        "the status of an unknown version",
        "GET",
        f"/v1/models/{MODEL}/versions/9",
        None,
        404,
        None,
        f"Could not find version 9 of model {MODEL}",
    ),
    Rest("the status of no model", "GET", "/v1/models", None, 400, None, "Missing model name in request."),
    Rest(
        "the metadata of an unknown model",
        "GET",
        "/v1/models/none/metadata",
        None,
        404,
        None,
        "Servable not found for request: Latest(none)",
    ),
    Rest(
        "the metadata of an unknown version",
        "GET",
        f"/v1/models/{MODEL}/versions/9/metadata",
        None,
        404,
        None,
        f"Specific({MODEL}, 9)",
    ),
    Rest(
        "the metadata of an unknown label",
        "GET",
        f"/v1/models/{MODEL}/labels/none/metadata",
        None,
        400,
        None,
        "Unrecognized servable version label: none",
    ),
    Rest("another path of a model", "GET", f"/v1/models/{MODEL}/nothing", None, 400, None, "Malformed request: GET"),
]


def same_json(found: Any, expected: Any) -> bool:
    """Whether two JSON values say the same; floats as float32."""
    if isinstance(expected, float) and not isinstance(found, bool):
        return isinstance(found, int | float) and math.isclose(found, expected, rel_tol=1e-6)
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(same_json, found, expected))
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(same_json(found[key], value) for key, value in expected.items())
        )
    return found == expected and isinstance(found, bool) == isinstance(expected, bool)
