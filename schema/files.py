"""Files that are whole at every moment."""

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8 beside and renames it: readers find the old one or the new one, whoever is killed when.
    Raises OSError where it cannot be written."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
