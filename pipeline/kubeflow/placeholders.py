"""`${NAME}` in a step's settings stands for a runtime parameter of the pipeline.

Kubeflow passes a parameter to a step as a whole value; most of ours are parts of one (a folder below the cache, a
destination in JSON). So a step gets each parameter beside its settings, and puts it where it is named.
"""

import re
from collections.abc import Mapping
from typing import Any

from schema.errors import InputError

PREFIX = "at_"  # of a runtime parameter among a step's own
FINGERPRINT = "fingerprint"  # of the text encoder, which is known where its files are
_NAMED = re.compile(r"\$\{([a-z]+)\}")


def stand_in(name: str) -> str:
    """What stands for a parameter."""
    return f"${{{name}}}"


def fill(value: Any, values: Mapping[str, str]) -> Any:
    """A setting with the parameters that it names; a name that is no parameter's stays.

    Raises:
      InputError: a parameter holds what would end the JSON that it is put into.
    """
    if not isinstance(value, str):
        return value
    return _NAMED.sub(lambda match: _checked(match[1], values) if match[1] in values else match[0], value)


def _checked(name: str, values: Mapping[str, str]) -> str:
    value = values[name]
    if set(value) & {'"', "\\"} or not value.isprintable():
        raise InputError(f"the parameter {name}: {value!r} is no path; leave out quotes, backslashes and line breaks.")
    return value
