"""Small JSON files in the cache, on whatever file system that lies."""

import json
import os
import uuid
from typing import Any

from tfx.dsl.io import fileio


def read_json(path: str, otherwise: Any = None) -> Any:
    """A file's value; `otherwise` where there is no file, unless that is None. Raises an error of `fileio` then."""
    if otherwise is not None and not fileio.exists(path):
        return otherwise
    with fileio.open(path, "r") as file:
        return json.loads(file.read())


def write_json(path: str, value: Any) -> None:
    """Writes a file beside and renames it: readers find the old one or the new one. Its folders are made."""
    fileio.makedirs(os.path.dirname(path))
    partial = f"{path}.{uuid.uuid4().hex}.partial"
    with fileio.open(partial, "w") as file:
        file.write(json.dumps(value))
    fileio.rename(partial, path, overwrite=True)
