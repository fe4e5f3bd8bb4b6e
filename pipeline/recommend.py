"""`homefeed recommend`: lists for many users from a SavedModel, without a server."""

import csv
from pathlib import Path

from rich.progress import track

from components.batch_recommender import BATCH, HEADER, recommend_rows
from schema.errors import InputError
from schema.saved_model import ServableModel
from serving.versions import versions_in


def write_recommendations(model: str, users: str, k: int, out: str, include_seen: bool) -> int:
    """Writes `user_id,item_id,rank,score`; the file appears when it is whole.

    Args:
      model: a version's folder, or the folder of versions (the newest is taken).
      users: a file with one user id a line, or `all` that the model knows.
      k: length of each list.
      out: the CSV file.
      include_seen: keep items that the user already had.

    Returns:
      The number of rows.

    Raises:
      InputError: the model or the users cannot be read.
    """
    folder = newest_version(Path(model))
    user_ids = read_users(folder / "assets" / "user_ids.txt" if users == "all" else Path(users))
    servable = ServableModel(str(folder))
    partial, rows = Path(f"{out}.partial"), 0
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            starts = range(0, len(user_ids), BATCH)
            for start in track(starts, description="users", transient=True):
                batch = user_ids[start : start + BATCH]
                for row in recommend_rows(servable, batch, k, exclude_seen=not include_seen):
                    writer.writerow((*row[:3], f"{row[3]:.6g}"))
                    rows += 1
        partial.rename(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give another --out.") from error
    finally:
        partial.unlink(missing_ok=True)
    return rows


def newest_version(folder: Path) -> Path:
    """The folder itself where it is a version, else the newest version below it. Raises InputError without one."""
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = versions_in(folder)
    if not versions:
        raise InputError(f"{folder}: holds no SavedModel; give a folder such as W/serving/homefeed.")
    return folder / str(versions[0])


def read_users(file: Path) -> list[bytes]:
    """User ids, one a line; empty lines are left out. Raises InputError where there are none."""
    try:
        lines = [line.strip() for line in file.read_bytes().splitlines()]
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); give a file with one user id a line.") from error
    user_ids = [line for line in lines if line]
    if not user_ids:
        raise InputError(f"{file}: holds no user id; write one a line.")
    return user_ids
