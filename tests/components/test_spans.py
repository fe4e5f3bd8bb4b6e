import json
from pathlib import Path

import pytest
from tfx.types.standard_artifacts import Examples

from components.refused_days import left_out, note
from components.spans import (
    Span,
    SpanStore,
    check_unchanged,
    dump_spans,
    fingerprint_files,
    load_spans,
    publish,
    spans_of,
)
from schema.days import day_of
from schema.errors import InputError

FIRST, LATE = Span("2025-01-02", "a"), Span("2025-01-02", "b")


def work(store, span, text="done"):
    (new,) = store.missing([span])
    Path(store.path(new), "rows.gz").write_text(text)
    store.commit(new, {"rows": 1})


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("2010-12-01", "2010-12-01"),
        ("20101201", "2010-12-01"),
        ("day=2010-12-01", "2010-12-01"),
        ("dt=20101201", "2010-12-01"),
        ("2010-13-01", None),
        ("backup", None),
        ("all", None),
        ("120101201", None),
    ],
)
def test_folders_are_called_after_days(name, day):
    assert str(day_of(name)) == str(day)


def test_a_span_s_number_is_tfx_s():
    assert (Span("1970-01-03", "").number, Span("all", "").number) == (2, 0)


def test_spans_travel_as_a_property():
    assert load_spans(dump_spans([FIRST, Span("2025-01-03", "c")])) == [FIRST, Span("2025-01-03", "c")]


def test_what_is_done_is_not_done_again_and_what_is_half_done_is(tmp_path):
    store = SpanStore(str(tmp_path), {"columns": 1})
    assert store.missing([FIRST]) == [FIRST]
    Path(store.path(FIRST), "half.gz").write_text("of a run that was killed")
    work(store, FIRST)
    assert store.missing([FIRST]) == []
    assert sorted(p.name for p in Path(store.path(FIRST)).iterdir()) == ["done.json", "rows.gz"]
    assert store.details(FIRST) == {"rows": 1}


def test_other_settings_are_other_work(tmp_path):
    work(SpanStore(str(tmp_path), {"columns": 1}), FIRST)
    other = SpanStore(str(tmp_path), {"columns": 2})
    assert other.missing([FIRST]) == [FIRST]


def test_late_data_is_a_new_version_of_its_span_and_nothing_else(tmp_path):
    store = SpanStore(str(tmp_path), {})
    work(store, FIRST)
    assert store.missing([LATE]) == [LATE]
    work(store, LATE)
    assert (store.version(FIRST), store.version(LATE)) == (1, 2)
    other_settings = SpanStore(str(tmp_path), {"columns": 2})
    work(other_settings, FIRST)
    assert other_settings.version(FIRST) == 1  # the content is what counts


def test_an_artifact_stands_without_the_store(tmp_path):
    store = SpanStore(str(tmp_path / "store"), {})
    spans = [FIRST, Span("2025-01-03", "c")]
    for span in spans:
        work(store, span, span.name)
    examples = Examples()
    examples.uri = str(tmp_path / "examples")
    publish(examples, store, spans)
    assert spans_of(examples) == spans
    assert json.loads(examples.split_names) == ["2025-01-02", "2025-01-03"]
    files = {p.parent.name: p.read_text() for p in (tmp_path / "examples").glob("*/*")}
    assert files == {"Split-2025-01-02": "2025-01-02", "Split-2025-01-03": "2025-01-03"}


def test_files_that_change_while_they_are_read_are_told(tmp_path):
    (tmp_path / "2025-01-02").mkdir()
    file = tmp_path / "2025-01-02" / "a.csv"
    file.write_text("one")
    span = Span("2025-01-02", fingerprint_files([str(file)]))
    check_unchanged(str(tmp_path), span, ".csv")
    file.write_text("two")
    with pytest.raises(InputError, match="changed while it was read"):
        check_unchanged(str(tmp_path), span, ".csv")


def test_a_store_may_lie_where_no_path_leads():
    """In TensorFlow's own file system in memory, as it may in a bucket."""
    place, span = "ram://cache", Span("2025-01-02", "f")
    store = SpanStore(f"{place}/examples", {"code": "c"})
    assert store.missing([span]) == [span]
    store.commit(span, {"rows": 3})
    assert store.missing([span]) == [] and store.details(span) == {"rows": 3} and store.version(span) == 1
    note(place, [span], True, set())
    note(place, [span, Span("2025-01-03", "g")], False, set())
    assert left_out(place) == [Span("2025-01-03", "g")]
