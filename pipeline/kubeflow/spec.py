"""A compiled file, read back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from schema.errors import InputError


def read_spec(path: str) -> dict[str, Any]:
    """The PipelineSpec of a compiled file, YAML or JSON job. Raises InputError where it holds none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        document = next(iter(yaml.safe_load_all(text)), None)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]}); compile it again.") from error
    spec = document.get("pipelineSpec", document) if isinstance(document, dict) else None
    if not isinstance(spec, dict) or "root" not in spec or "deploymentSpec" not in spec:
        raise InputError(f"{path}: holds no pipeline; `homefeed compile` writes one.")
    return spec


def parameter_values(spec: Mapping[str, Any], path: str, given: Mapping[str, str]) -> dict[str, str]:
    """Every runtime parameter of a pipeline with its value: what is given, else its default.

    Raises:
      InputError: one that is given is no parameter of the file at `path`.
    """
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise InputError(f"{unknown[0]}: is no parameter of {path}; it has {', '.join(sorted(declared))}.")
    return {name: given.get(name, told.get("defaultValue", "")) for name, told in declared.items()}
