"""JSON as TensorFlow Serving reads and writes it: NaN and Infinity, floats in their own precision, RapidJSON's layout
and words for what cannot be parsed."""

import base64
import json
import math
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from serving.errors import invalid

_INDENT = "    "
_MOST = 256  # characters of a value that an error repeats
_FLOAT = struct.Struct("f")
_DECODER = json.JSONDecoder()
# Halves of pairs; the ones that are left out stand for bytes that are no UTF-8, see `parse_object`.
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# What Python's parser says -> what RapidJSON says.
_WORDS = {
    "Expecting value": "Invalid value.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}


def parse_object(body: bytes) -> dict[str, Any]:
    """The object that a request's body holds; what comes after it is not looked at.

    Raises:
      ServingError: there is none.
    """
    text = body.decode("utf-8", "surrogateescape")  # bytes that are no UTF-8 go through, as they do there
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise invalid("JSON Parse error: The document is empty")
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {_words(error)} at offset: {error.pos}") from error
    except (RecursionError, ValueError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if "\\u" in text and _LONE.search(json.dumps(value, ensure_ascii=False)):
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.")
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {shown(value)} Is not object")
    return value


def _words(error: json.JSONDecodeError) -> str:
    if error.msg == "Expecting ',' delimiter":
        return f"Missing a comma or {_closing(error.doc, error.pos)}"
    return _WORDS.get(error.msg, f"{error.msg}.")


def _closing(text: str, end: int) -> str:
    """What would have closed the innermost object or array at a place."""
    open_ones, is_string, is_escaped = [], False, False
    for character in text[:end]:
        if is_string:
            is_string = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == '"':
            is_string = True
        elif character in "[{":
            open_ones.append(character)
        elif character in "]}":
            open_ones.pop()
    return "} after an object member." if open_ones[-1:] == ["{"] else "] after an array element."


def type_name(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def quoted(text: str) -> str:
    """A JSON string."""
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace").decode()


def shown(value: Any) -> str:
    """A value for an error's sentence, cut off where it is long."""
    parts, length = [], 0
    for part in _tokens(value, ""):
        parts.append(part)
        length += len(part)
        if length >= _MOST:
            break
    return "".join(parts)[:_MOST]


def _tokens(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict):
        deeper = indent + _INDENT
        yield "{"
        for i, (key, part) in enumerate(value.items()):
            yield f"{',' if i else ''}\n{deeper}{quoted(key)}: "
            yield from _tokens(part, deeper)
        yield f"\n{indent}}}" if value else "}"
    elif isinstance(value, list):
        yield "["
        for i, part in enumerate(value):
            if i:
                yield ", "
            yield from _tokens(part, indent)
        yield "]"
    elif isinstance(value, str):
        yield quoted(value)
    elif isinstance(value, float):
        yield decimal(value)
    else:
        yield json.dumps(value)


def decimal(value: float, is_single: bool = False) -> str:
    """A float with as many digits as it needs: json_tensor.cc's `WriteDecimal`; `is_single` for float32."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    text = f"{value:.6g}"
    again = float(text)
    if is_single:
        try:
            (again,) = _FLOAT.unpack(_FLOAT.pack(again))
        except OverflowError:  # six digits of the largest float32 are more than it
            again = math.inf
    if again != value:
        text = f"{value:.9g}" if is_single else f"{value:.17g}"
    return text if "." in text or "e" in text else f"{text}.0"


def scalars(array: np.ndarray, as_bytes: bool) -> list[str]:
    """Each value of an array as JSON, in the order of its elements; strings as `{"b64": …}` where `as_bytes`."""
    values = array.ravel().tolist()
    if array.dtype == object:
        if as_bytes:
            return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in values]
        return [quoted(value.decode("utf-8", "replace")) for value in values]
    if array.dtype.kind == "f":
        is_single = array.dtype != np.float64
        return [decimal(value, is_single) for value in values]
    return [json.dumps(value) for value in values]


def one_line(parts: list[str], shape: tuple[int, ...]) -> str:
    """Values as nested lists of a shape, on one line."""
    if not shape:
        return parts[0]
    step = len(parts) // shape[0] if shape[0] else 0
    rows = (one_line(parts[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0]))
    return f"[{', '.join(rows)}]"


def many_lines(parts: list[str], shape: tuple[int, ...], indent: str) -> str:
    """Values as nested lists of a shape, each on a line of its own."""
    if not shape:
        return parts[0]
    if not shape[0]:
        return "[]"
    deeper, step = indent + _INDENT, len(parts) // shape[0]
    rows = (many_lines(parts[i * step : (i + 1) * step], shape[1:], deeper) for i in range(shape[0]))
    return f"[\n{deeper}" + f",\n{deeper}".join(rows) + f"\n{indent}]"


def member(key: str, text: str) -> str:
    """A body with one member, whose value is JSON already."""
    return f"{{\n{_INDENT}{quoted(key)}: {text}\n}}"
