"""Days as folders are called after them."""

import datetime as dt
import re

_DAY = re.compile(r"(?:.*[^0-9])?(\d{4})-?(\d{2})-?(\d{2})(?:[^0-9].*)?")


def day_of(name: str) -> dt.date | None:
    """The day that a folder is called after (`2010-12-01`, `day=20101201`), or None."""
    found = _DAY.fullmatch(name)
    try:
        return dt.date(*map(int, found.groups())) if found else None
    except ValueError:
        return None
