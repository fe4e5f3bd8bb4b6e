"""A publisher's archive: from a local file, or downloaded with a progress bar and retries."""

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from schema.errors import InputError


@contextmanager
def open_archive(url: str, archive: str | None) -> Iterator[zipfile.ZipFile]:
    """Opens `archive`, or what `url` serves where no file is given; a download is gone afterwards.

    Raises:
      InputError: the file is missing or no zip, or the download failed.
    """
    if archive is not None:
        with _open_zip(Path(archive)) as file:
            yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "download.zip"
        try:
            download(url, path)
        except httpx.HTTPError as error:
            raise InputError(
                f"{url}: could not be downloaded ({type(error).__name__}: {error}); fetch it by other means and give "
                "the file with --archive."
            ) from error
        with _open_zip(path) as file:
            yield file


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is not a readable zip archive ({error}); download it again.") from error


@retry(
    stop=stop_after_attempt(4),
    wait=wait_exponential(max=8),
    retry=retry_if_exception_type(httpx.TransportError),
    reraise=True,
)
def download(url: str, path: Path) -> None:
    """Fetches `url` with a progress bar and retries. Raises httpx.HTTPError."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        Progress(*columns) as progress,
        path.open("wb") as file,
        httpx.stream("GET", url, follow_redirects=True, timeout=30) as response,
    ):
        response.raise_for_status()
        length = response.headers.get("content-length")
        task = progress.add_task(url.rsplit("/", 1)[-1], total=int(length) if length else None)
        for chunk in response.iter_bytes():
            file.write(chunk)
            progress.update(task, completed=response.num_bytes_downloaded)


class RowsChecksum:
    """A checksum of rows that does not depend on their order or on how a file stores them.

    The sum, modulo 2**64, of the first eight bytes of each row's SHA-256: equal for a workbook and for daily files that
    hold the same rows.
    """

    def __init__(self) -> None:
        self._sum = 0

    def add(self, *values: object) -> None:
        """Adds one row."""
        digest = hashlib.sha256("\x1f".join(map(str, values)).encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest[:8], "big")) % 2**64

    def verify(self, expected: str, source: str) -> None:
        """Raises InputError where the rows are not the published ones."""
        found = f"{self._sum:016x}"
        if found != expected:
            raise InputError(f"{source}: its rows have checksum {found}, published are {expected}; download it again.")
