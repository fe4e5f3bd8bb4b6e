"""Input files where they lie: below a folder of this machine, or in a bucket (`gs://`, or what else Beam reads)."""

from pathlib import Path
from typing import Any, NamedTuple

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from schema.errors import InputError

_DEPTHS = ("*", "*/*")  # files at the top, and in folders a day


class InputFile(NamedTuple):
    """A file as its folder's listing tells of it.

    Attributes:
      path: of this machine, or a URL.
      size: bytes.
      modified: seconds since 1970 UTC.
    """

    path: str
    size: int
    modified: float

    @property
    def parts(self) -> list[str]:
        """The names of the folders that it is in, and its own."""
        return self.path.split("/")


def is_remote(path: str) -> bool:
    """Whether a path is a URL, and no folder or file of this machine."""
    return "://" in path


def base_of(folder: str) -> str:
    """The one name of a folder, by which its files' names begin."""
    return folder.rstrip("/") if is_remote(folder) else str(Path(folder).resolve())


def list_files(folder: str, depths: tuple[str, ...] = _DEPTHS) -> list[InputFile]:
    """The files of a folder by their paths, as many levels below it as a pattern of `depths` has.

    Raises:
      InputError: a bucket cannot be listed.
    """
    patterns = [f"{folder.rstrip('/')}/{depth}" for depth in depths]
    if not is_remote(folder):
        paths = sorted(path for depth in depths for path in Path(folder).glob(depth) if path.is_file())
        return [InputFile(str(p), stat.st_size, stat.st_mtime) for p, stat in ((p, p.stat()) for p in paths)]
    try:
        found = [told for match in FileSystems.match(patterns) for told in match.metadata_list]
    except (BeamIOError, ValueError) as error:
        raise InputError(f"{folder}: cannot be listed ({_short(error)}); see that it may be read.") from error
    files = (InputFile(told.path, told.size_in_bytes, told.last_updated_in_seconds) for told in found)
    return sorted(file for file in files if not file.path.endswith("/"))  # what a bucket's console calls a folder


def folder_exists(folder: str) -> bool:
    """Whether there is such a folder; in a bucket, which has none, whether files lie below it. Raises InputError as
    `list_files`."""
    return bool(list_files(folder)) if is_remote(folder) else Path(folder).is_dir()


def open_file(path: str) -> Any:
    """A file's bytes, to be read and sought in. Raises InputError where it cannot be opened."""
    try:
        return FileSystems.open(path)
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"{path}: cannot be opened ({_short(error)}); see that it may be read.") from error


def _short(error: Exception) -> str:
    while isinstance(error, BeamIOError) and error.exception_details:
        error = next(iter(error.exception_details.values()))
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
