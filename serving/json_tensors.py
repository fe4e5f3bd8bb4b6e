"""Tensors and examples from JSON, and answers to JSON: the REST API's forms, as json_tensor.cc has them.

A request's row names every input of its signature, and so does a request in columns: over REST, TensorFlow Serving
knows no defaults (over gRPC it does).
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.errors import Code, ServingError, invalid
from serving.inference import shape_text
from serving.json_text import decimal, many_lines, member, one_line, quoted, scalars, shown, type_name

_BYTES_SUFFIX = "_bytes"  # outputs called so are base64 in JSON
_B64 = "b64"
# dtype -> bounds of the JSON integers that it takes; narrower ones are taken as int32 and cut, as there.
_INT32, _INT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
_INTEGERS = {
    tf.int32: _INT32,
    tf.int16: _INT32,
    tf.int8: _INT32,
    tf.uint8: _INT32,
    tf.int64: _INT64,
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}
_FLOATS = (tf.float32, tf.float64)
_FLOAT_NAMES = {tf.float16: "half", tf.float32: "float", tf.float64: "double"}

Inputs = Mapping[str, meta_graph_pb2.TensorInfo]


def signature_name(body: Mapping[str, Any]) -> str:
    """The signature that a request asks for, empty where it does not say.

    Raises:
      ServingError: it is no string.
    """
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {shown(dict(body))} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def predict_inputs(body: dict[str, Any], inputs: Inputs) -> tuple[dict[str, np.ndarray], bool]:
    """The tensors of a predict request, and whether it is in rows.

    Raises:
      ServingError: it is neither of row nor of columnar form, or its values do not fit the signature's inputs.
    """
    if "instances" in body and "inputs" in body:
        raise invalid(
            f"JSON Value: {shown(body)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to "
            "exist "
        )
    if "instances" in body:
        rows = body["instances"]
        if not isinstance(rows, list):
            raise invalid(f"JSON Value: {shown(body)} Expecting 'instances' to be an list/array")
        if not rows:
            raise invalid(f"JSON Value: {shown(body)} No values in 'instances' array")
        return _from_rows(rows, inputs), True
    if "inputs" in body:
        return _from_columns(body["inputs"], inputs), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _from_rows(rows: list[Any], inputs: Inputs) -> dict[str, np.ndarray]:
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    are_objects = _is_object(rows[0])
    first = next(iter(inputs))
    values: dict[str, list[Any]] = {}
    shapes: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if are_objects and not _is_object(row):
            raise invalid(f"Expecting object but got list at item {number} of input list")
        if not are_objects and _is_object(row):
            raise invalid(f"Expecting value/list but got object at item {number} of input list")
        for name, value in row.items() if are_objects else ((first, row),):
            try:
                _add(name, value, inputs, values, shapes)
            except ServingError as error:
                key = f" key: {name}" if are_objects else ""
                raise invalid(
                    f"Failed to process element: {number}{key} of 'instances' list. Error: {error.code.name}: {error}"
                ) from error
        if are_objects and row.keys() != inputs.keys():
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {shown(row)} keys must be "
                f"equal to: {','.join(sorted(inputs))}"
            )
    return {name: _array(found, [len(rows), *shapes[name]], inputs[name]) for name, found in values.items()}


def _add(name: str, value: Any, inputs: Inputs, values: dict[str, list[Any]], shapes: dict[str, list[int]]) -> None:
    if name not in inputs:
        raise invalid(f"JSON object: does not have named input: {name}")
    shape, into = _shape(value), values.setdefault(name, [])
    before = len(into)
    _fill(value, 0, shape, tf.dtypes.as_dtype(inputs[name].dtype), into)
    if name not in shapes:
        shapes[name] = shape
    elif shape != shapes[name]:
        expected, got = int(np.prod(shapes[name], dtype=int)), len(into) - before
        if expected != got:
            raise invalid(f"Expecting tensor size: {expected} but got: {got}")
        raise invalid(f"Expecting shape {shape_text(shapes[name])} but got: {shape_text(shape)}")


def _from_columns(columns: Any, inputs: Inputs) -> dict[str, np.ndarray]:
    if not _is_object(columns):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        columns = {next(iter(inputs)): columns}
    arrays = {}
    for name, info in inputs.items():
        if name not in columns:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        shape = _shape(columns[name])
        into: list[Any] = []
        _fill(columns[name], 0, shape, tf.dtypes.as_dtype(info.dtype), into)
        arrays[name] = _array(into, shape, info)
    return arrays


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {_B64} and isinstance(value[_B64], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_b64(value)


def _array(values: list[Any], shape: list[int], info: meta_graph_pb2.TensorInfo) -> np.ndarray:
    dtype = tf.dtypes.as_dtype(info.dtype)
    if dtype == tf.string:
        array = np.empty(len(values), object)
        array[:] = values
    elif _INTEGERS.get(dtype) == _INT32:
        array = np.array(values, np.int32).astype(dtype.as_numpy_dtype)
    else:
        with np.errstate(over="ignore"):  # what is too large for float32 is infinite, as there
            array = np.array(values, dtype.as_numpy_dtype)
    return array.reshape(shape)


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _fill(value: Any, level: int, shape: list[int], dtype: tf.DType, into: list[Any]) -> None:
    """Adds a value's elements; `shape` is what its first elements say."""
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise invalid(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
                f"{rank}"
            )
        into.append(_scalar(value, dtype))
        return
    if level >= rank:
        raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for part in value:
        _fill(part, level + 1, shape, dtype, into)


def _scalar(value: Any, dtype: tf.DType) -> Any:
    name = _FLOAT_NAMES.get(dtype, dtype.name)
    if isinstance(value, dict):
        if dtype == tf.string:
            return _decoded(value)
    elif dtype == tf.string:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif dtype in _INTEGERS:
        least, most = _INTEGERS[dtype]
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
    elif dtype in _FLOATS:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError as error:
                raise invalid("JSON Parse error: Number too big to be stored in double.") from error
    else:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {shown(value)} to type: {name}")
    raise invalid(f"JSON Value: {shown(value)} Type: {type_name(value)} is not of expected type: {name}")


def _decoded(value: dict[str, Any]) -> bytes:
    if not _is_b64(value):
        raise invalid(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    text = value[_B64]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def examples_input(body: dict[str, Any]) -> input_pb2.Input:
    """The examples of a classify or regress request.

    Raises:
      ServingError: they are missing or malformed.
    """
    given = input_pb2.Input()
    into = given.example_list
    if "context" in body:
        into = given.example_list_with_context
        _fill_example(body["context"], into.context)
    examples = body.get("examples")
    if "examples" not in body:
        raise invalid(
            f"JSON Value: {shown(body)} When method is classify, key 'examples' is expected and was not found"
        )
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {shown(body)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {shown(body)} 'examples' value is an empty array")
    for example in examples:
        _fill_example(example, into.examples.add())
    return given


def _fill_example(value: Any, example: tf.train.Example) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    for name, content in value.items():
        feature = example.features.feature[name]
        for part in content if isinstance(content, list) else [content]:
            _add_to_feature(name, part, feature)


def _add_to_feature(name: str, value: Any, feature: tf.train.Feature) -> None:
    kind: str
    told: Any
    if isinstance(value, bool):
        kind, told = "int64_list", int(value)
    elif isinstance(value, str):
        kind, told = "bytes_list", value.encode("utf-8", "surrogateescape")
    elif _is_b64(value):
        kind, told = "bytes_list", _decoded(value)
    elif isinstance(value, float):
        kind, told = "float_list", value
    elif isinstance(value, int):
        kind, told = "int64_list", value
        if not _INT64[0] <= value <= _INT64[1]:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        words = present.removesuffix("_list")
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {words}")
    getattr(feature, kind).value.append(told)


def predictions(outputs: Mapping[str, np.ndarray], in_rows: bool) -> str:
    """The body that answers a predict request.

    Raises:
      ServingError: outputs of a request in rows that have different numbers of rows.
    """
    if in_rows:
        return _to_rows(outputs)
    parts = {name: scalars(array, name.endswith(_BYTES_SUFFIX)) for name, array in outputs.items()}
    if len(parts) == 1:
        ((name, found),) = parts.items()
        return member("outputs", many_lines(found, outputs[name].shape, " " * 4))
    members = (
        f"\n        {quoted(name)}: {many_lines(found, outputs[name].shape, ' ' * 8)}" for name, found in parts.items()
    )
    return member("outputs", "{" + ",".join(members) + "\n    }")


def _to_rows(outputs: Mapping[str, np.ndarray]) -> str:
    batch = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch not in (-1, len(array)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}")
        batch = len(array)
    rows = {}
    for name, array in outputs.items():
        parts = scalars(array, name.endswith(_BYTES_SUFFIX))
        step = len(parts) // batch if batch else 0
        rows[name] = [one_line(parts[i * step : (i + 1) * step], array.shape[1:]) for i in range(batch)]
    if len(rows) == 1:
        return member("predictions", "[" + ", ".join(next(iter(rows.values()))) + "\n    ]")
    objects = (
        "\n        {"
        + ",".join(f"\n            {quoted(name)}: {found[i]}" for name, found in rows.items())
        + "\n        }"
        for i in range(batch)
    )
    return member("predictions", "[" + ",".join(objects) + "\n    ]")


def classification_results(result: classification_pb2.ClassificationResult) -> str:
    """The body that answers a classify request."""
    rows = (
        "[" + ", ".join(f"[{quoted(c.label)}, {decimal(c.score, True)}]" for c in classifications.classes) + "]"
        for classifications in result.classifications
    )
    return member("results", "[" + ", ".join(rows) + "\n    ]")


def regression_results(result: regression_pb2.RegressionResult) -> str:
    """The body that answers a regress request."""
    return member("results", "[" + ", ".join(decimal(r.value, True) for r in result.regressions) + "]")
