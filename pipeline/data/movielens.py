"""MovieLens ml-latest-small (Harper and Konstan 2015, doi 10.1145/2827872): ratings and tags of films."""

import csv
import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Iterator

from pipeline.data.archive import open_archive
from pipeline.data.writer import write_dataset
from schema import names
from schema.errors import InputError

URL = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"
SHA256 = {
    "ratings.csv": "aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646",
    "tags.csv": "92a9f8bb7916dceef6151209845788c3643f794dfa79d1feaec7121b5960399d",
    "movies.csv": "5a5f32dd9bb3797b8e728a1b98958789d2b13f294a69fdfbc5727f8a9611aa07",
}
_NO_GENRES = "(no genres listed)"


def write_movielens(out: str, archive: str | None = None) -> Counter[str]:
    """Writes ratings as `rating`, tags as `comment`, films as the catalog (genres are its categories).

    Args:
      out: folder that gets `behaviors/` and `catalog/`.
      archive: GroupLens' zip; None downloads it.

    Returns:
      What was written and mapped: label -> rows.

    Raises:
      InputError: the archive is not the published one, or `out` is taken.
    """
    with write_dataset(out) as writer, open_archive(URL, archive) as file:
        for row in _rows(file, "ratings.csv"):
            writer.counts["mapped: ratings to the event `rating`"] += 1
            writer.behavior({**_event(row, "rating"), names.VALUE: row["rating"]})
        for row in _rows(file, "tags.csv"):
            writer.counts["mapped: tags to the event `comment`"] += 1
            writer.behavior({**_event(row, "comment"), names.COMMENT: row["tag"]})
        writer.catalog(
            {
                names.ITEM_ID: row["movieId"],
                names.TITLE: row["title"],
                names.CATEGORY: "" if row["genres"] == _NO_GENRES else row["genres"],
            }
            for row in _rows(file, "movies.csv")
        )
        return writer.counts


def _event(row: dict[str, str], event: str) -> dict[str, object]:
    return {
        names.USER_ID: row["userId"],
        names.ITEM_ID: row["movieId"],
        names.EVENT: event,
        names.TIMESTAMP: int(row["timestamp"]),
    }


def _rows(file: zipfile.ZipFile, name: str) -> Iterator[dict[str, str]]:
    try:
        content = file.read(f"ml-latest-small/{name}")
    except KeyError as error:
        raise InputError(f"{file.filename}: holds no {name}; give the ml-latest-small archive.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise InputError(
            f"{file.filename}: {name} has SHA-256 {found}, published is {SHA256[name]}; download it again."
        )
    yield from csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""))
