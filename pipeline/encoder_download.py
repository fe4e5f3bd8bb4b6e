"""A text encoder that the configuration names by URL: downloaded once, checked, unpacked."""

import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import urlparse

import httpx

from pipeline.data.archive import download
from schema.errors import InputError
from schema.fingerprints import sha256_of

_MARKS = ("config.json", "saved_model.pb")  # one of these lies where an encoder begins


def local_encoder(path: str, sha256: str, cache: str) -> str:
    """`path` as a folder: itself, or what its URL (.tar.gz, .tgz or .zip) holds.

    Args:
      path: the configuration's `encoder.path`.
      sha256: of the archive, hexadecimal; a download without it is refused.
      cache: folder that keeps what was unpacked, by its hash.

    Raises:
      InputError: there is no hash, the download failed, or it is not what the hash says; nothing is kept then.
    """
    if urlparse(path).scheme not in ("http", "https"):
        return path
    if not sha256:
        raise InputError("encoder.sha256: has to be given where encoder.path is a URL; it is the archive's SHA-256.")
    folder = Path(cache) / sha256.lower()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            archive = Path(work) / "archive"
            try:
                download(path, archive)
            except httpx.HTTPError as error:
                raise InputError(f"{path}: could not be downloaded ({type(error).__name__}: {error}).") from error
            found = sha256_of(archive)
            if found != sha256.lower():
                raise InputError(f"{path}: its SHA-256 is {found}, not encoder.sha256; it is not the file you meant.")
            _unpack(archive, Path(work) / "unpacked", path)
            (Path(work) / "unpacked").replace(folder)
    begins = sorted((mark.parent for name in _MARKS for mark in folder.rglob(name)), key=lambda p: len(p.parts))
    if not begins:
        raise InputError(f"{path}: holds no encoder: neither config.json nor saved_model.pb.")
    return str(begins[0])


def _unpack(archive: Path, folder: Path, url: str) -> None:
    try:
        if zipfile.is_zipfile(archive):
            shutil.unpack_archive(archive, folder, "zip")  # leaves out what would lie outside
        else:
            shutil.unpack_archive(archive, folder, "gztar", filter="data")  # refuses links and paths that lead outside
    except (shutil.ReadError, tarfile.TarError, OSError) as error:
        raise InputError(f"{url}: is no readable .tar.gz or .zip ({error}).") from error
