"""The configuration reference, made from the typed configuration.

python -m pipeline.reference > docs/configuration.md
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from pipeline.config import Config
from pipeline.sections.section import Section

_HEAD = """# The configuration

Made from the typed configuration by `python -m pipeline.reference`; a test compares them. Every key has a default. A
YAML file has the sections as its keys (`--config shop.yaml`), and `--set section.key=value` changes one key. A key that
is not here, or a value that does not fit, is an error that names both.

```yaml
events: {view: 1, purchase: 5}
model: {epochs: 8}
evaluation: {thresholds: {recall: {at_least: 0.05}}}
```
"""
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}  # attributes of annotated_types' constraints


def reference() -> str:
    """The whole document, in Markdown."""
    parts = [_HEAD, "## At the top\n", *_table(Config, is_top=True)]
    for name, field in Config.model_fields.items():
        section = _section_of(field.annotation)
        if section is not None:
            parts += list(_described(name, section))
    return "\n".join(parts) + "\n"


def _described(path: str, section: type[Section]) -> Iterator[str]:
    yield f"\n## `{path}`\n"
    if section.__doc__:
        yield re.sub(r"\s+", " ", section.__doc__).strip() + "\n"
    yield from _table(section)
    for name, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is not None:
            is_map = get_origin(_bare(field.annotation)) is dict
            yield from _described(f"{path}.{name}" + (".NAME" if is_map else ""), inner)


def _table(section: type[Section], is_top: bool = False) -> Iterator[str]:
    yield "| key | default | values | |\n|---|---|---|---|"
    for name, field in section.model_fields.items():
        if is_top and _section_of(field.annotation) is not None:
            continue
        cells = (f"`{name}`", _default(field), _values(field), field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "none: is to be given"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section) or (isinstance(value, dict) and any(isinstance(v, Section) for v in value.values())):
        return "below" if isinstance(value, Section) else ", ".join(f"`{key}`" for key in value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return "empty" if value in (None, "", [], {}) else f"`{text}`"


def _values(field: FieldInfo) -> str:
    bounds = [_bound(one) for one in field.metadata]
    return ", ".join(filter(None, [_type(field.annotation), *bounds]))


def _bound(constraint: Any) -> str:
    for name, sign in _BOUNDS.items():
        if hasattr(constraint, name):
            return f"{sign} {getattr(constraint, name)}"
    return "not empty" if getattr(constraint, "min_length", None) else ""


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        inner, *bounds = get_args(annotation)
        found = [_bound(one) for bound in bounds for one in getattr(bound, "metadata", [bound])]
        return " ".join(filter(None, [_type(inner), *found]))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[0])} → {_type(arguments[1])}"
    if arguments:  # a union with None
        return " or ".join(_type(one) for one in arguments if one is not type(None)) + ", or empty"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true, false"}.get(annotation.__name__, "")


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _section_of(annotation: Any) -> type[Section] | None:
    """The section that a key holds, alone or by name; None where it holds a value."""
    bare = _bare(annotation)
    if get_origin(bare) is dict:
        bare = get_args(bare)[1]
    return bare if isinstance(bare, type) and issubclass(bare, Section) else None


if __name__ == "__main__":
    print(reference(), end="")
