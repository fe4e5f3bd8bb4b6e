"""Days that DataGate has refused, for runners where nobody watches: the next run leaves them out by itself.

Kept in the cache, as days with fingerprints: those of the last blessed run, and those refused. A day whose files change
is judged anew; and where the cache is deleted, so is every day.
"""

from collections.abc import Collection, Iterable

from components.json_files import read_json, write_json
from components.spans import Span, dump_spans, load_spans

_BLESSED, _REFUSED = "blessed", "refused"


def left_out(cache_folder: str) -> list[Span]:
    """Days that were refused with the files that they had then."""
    return _read(cache_folder)[_REFUSED]


def note(cache_folder: str, window: Iterable[Span], blessed: bool, at_fault: Collection[str]) -> None:
    """Keeps what DataGate said of a run.

    Args:
      cache_folder: of the runner; its folders are made.
      window: the days of the log that the run has read.
      blessed: what it said.
      at_fault: days that break a rule by themselves. Of what is new since the last blessed run these are to blame, or
        all where none of them is new; before the first blessed run nobody is.
    """
    window, known = list(window), _read(cache_folder)
    if blessed:
        known[_BLESSED] = window
    else:
        new = [span for span in window if span not in known[_BLESSED]] if known[_BLESSED] else []
        known[_REFUSED] += [span for span in new if span.name in at_fault] or new
    write_json(_file(cache_folder), {key: dump_spans(spans) for key, spans in known.items()})


def _read(cache_folder: str) -> dict[str, list[Span]]:
    known = read_json(_file(cache_folder), {})
    return {key: load_spans(known.get(key, "{}")) for key in (_BLESSED, _REFUSED)}


def _file(cache_folder: str) -> str:
    return f"{cache_folder}/days.json"
