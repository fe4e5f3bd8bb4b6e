"""Fingerprints of files: equal ones mean equal content."""

import hashlib
from pathlib import Path


def sha256_of(file: Path) -> str:
    """Of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint_of(folder: Path) -> str:
    """Of the names and contents of all files below a folder, hexadecimal."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()
