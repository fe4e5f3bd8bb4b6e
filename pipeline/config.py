"""The typed configuration: read once at the edge, every wrong key or value named with what would be right."""

import json
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from pipeline.sections.checks import check_config
from pipeline.sections.config import Config
from pipeline.sections.gate import default_rules
from pipeline.sections.judging import THRESHOLDS
from schema.errors import InputError

__all__ = ["Config", "load_config"]


def load_config(path: str | None = None, assignments: tuple[str, ...] = ()) -> Config:
    """Reads the configuration file and applies `--set key=value` on top.

    Args:
      path: a YAML file, or None for the defaults.
      assignments: `section.key=value`, the value in YAML.

    Raises:
      InputError: the file cannot be read, or a key or value is wrong; names the key and what is allowed.
    """
    values: dict[str, Any] = {}
    where = "the configuration"
    if path is not None:
        where = path
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as YAML ({_first_line(error)}); mend or replace it.") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}: has to hold `section: {{key: value}}` pairs; found a {type(values).__name__}.")
    for assignment in assignments:
        _assign(values, assignment)
    _add_defaults(values, where)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error)}") from error
    check_config(config, where)
    return config


def _add_defaults(values: dict[str, Any], where: str) -> None:
    """A rule or threshold, or a key of one, that the user does not name keeps its default; a rule that nobody knows is
    an error, and a threshold of null is none."""
    rules = {name: setting.model_dump() for name, setting in default_rules().items()}
    own = _named_settings(values, "gate", "rules")
    for name in own:
        if name not in rules:
            raise InputError(f"{where}: gate.rules.{name} is not a rule; rules are {', '.join(sorted(rules))}.")
    _merge(own, rules)
    thresholds = {name: threshold.model_dump() for name, threshold in THRESHOLDS.items()}
    own = _named_settings(values, "evaluation", "thresholds")
    _merge(own, thresholds)
    for name in [name for name, threshold in own.items() if threshold is None]:
        del own[name]


def _named_settings(values: dict[str, Any], section: str, key: str) -> dict[str, Any]:
    """A dict in a section of the user's values; one that is not there, and what pydantic will refuse, is empty."""
    found = values[section].get(key) if isinstance(values.get(section), dict) else None
    return found if isinstance(found, dict) else {}


def _merge(own: dict[str, Any], defaults: dict[str, dict[str, Any]]) -> None:
    """Completes named settings, where there are any, in place."""
    for name, setting in defaults.items():
        if own and (isinstance(own.get(name), dict) or name not in own):
            own[name] = {**setting, **own.get(name, {})}


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    if not separator or not key:
        raise InputError(f"--set {assignment}: write it as --set section.key=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {assignment}: the value is not valid YAML ({_first_line(error)}).") from error
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {assignment}: {section} is a value, not a section.")
    values[last] = value


def _explain(error: ValidationError) -> str:
    """One sentence about the first thing that is wrong: its key, what was found, what is allowed."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *parents, _ = problem["loc"]
        section: Any = Config
        for parent in parents:  # of a dict, the parent is a name that the user has given
            is_dict = get_origin(section) is dict
            section = get_args(section)[1] if is_dict else section.model_fields[str(parent)].annotation
        return f"unknown key {key}; allowed here: {', '.join(section.model_fields)}."
    return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}; found {json.dumps(problem['input'], default=str)}."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
