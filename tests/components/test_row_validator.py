"""Rows in = rows kept + rows dropped by a rule + rows quarantined, whatever the rows and however they are treated."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from components.columnar import arrow_type, rows_of, to_batch
from components.examples import read_examples, write_examples
from components.row_validator import drop_unknown_items, find_days, judge_spans, row_order, span_report, treatments
from components.rules import RULES, Kind, Limits
from schema import names

LIMITS = Limits(events={"view": 1.0, "return": 0.0}, latest_timestamp=10**6, max_events_per_hour=3)
TREATMENT = {name: rule.rows for name, rule in RULES.items()}
COLUMNS = {**names.COLUMNS[names.BEHAVIORS], **names.ROW_COLUMNS}
SPAN = "1970-01-02"

rows = st.fixed_dictionaries(
    {
        names.USER_ID: st.sampled_from([b"u", b"v", None, b" w"]),
        names.ITEM_ID: st.sampled_from([b"i", b"j", None, b"null"]),
        names.EVENT: st.sampled_from([b"view", b"view", b"return", b"hover", None]),
        names.TIMESTAMP: st.sampled_from([86_400, 90_000, -5, None, 10**7]),
        names.VALUE: st.sampled_from([1.0, -1.0, None]),
    }
)


def judged(folder, table_rows, treatment=TREATMENT, buckets=1, limits=LIMITS):
    """(report, kept rows, quarantined rows) of one span."""
    folder = Path(folder)
    whole = [{names.SOURCE_ROW: b"a.csv:%d" % n, **row} for n, row in enumerate(table_rows, start=2)]
    batch = to_batch({c: pa.array([r.get(c) for r in whole], arrow_type(kind)) for c, kind in COLUMNS.items()})
    write_examples(str(folder / "in.gz"), [batch])
    (folder / "span").mkdir()
    with TestPipeline() as pipeline:
        files = [(SPAN, buckets, 0, str(folder / "in.gz"))]
        judge_spans(pipeline, files, names.BEHAVIORS, COLUMNS, limits, treatment, {SPAN: str(folder / "span")})
    return span_report(str(folder / "span")), read(folder, "data_tfrecord"), read(folder, "quarantined")


def read(folder, prefix):
    files = sorted(str(p) for p in (folder / "span").glob(f"{prefix}-*.gz"))
    batches = read_examples(files, {**COLUMNS, names.REASON: bytes}) if files else []
    return [row for batch in batches for row in rows_of(batch)]


@settings(max_examples=12, phases=(Phase.explicit, Phase.generate))  # each is a Beam pipeline
@given(st.lists(rows, min_size=1, max_size=40), st.sampled_from(["keep", "drop", "quarantine"]), st.integers(1, 3))
def test_each_row_ends_in_exactly_one_place(tmp_path_factory, table_rows, action, buckets):
    changed = {name for name, rule in RULES.items() if rule.kind is Kind.ROW and (rule.keepable or action != "keep")}
    treatment = {name: action if name in changed else how for name, how in TREATMENT.items()}
    report, kept, quarantined = judged(tmp_path_factory.mktemp("rows"), table_rows, treatment, buckets)
    dropped = {rule: n for rule, n in report["taken"].items() if treatment[rule] == "drop"}
    assert report["rows"] == len(table_rows) == len(kept) + sum(dropped.values()) + len(quarantined)
    assert report["kept"] == len(kept)
    assert Counter(row[names.REASON][0].decode() for row in quarantined) == {
        rule: n for rule, n in report["taken"].items() if treatment[rule] == "quarantine"
    }
    assert treatments({"spans": {SPAN: report}}) == {"rows": len(table_rows), "kept": len(kept), **report["taken"]}
    sources = [row[names.SOURCE_ROW][0] for row in (*kept, *quarantined)]
    assert len(sources) == len(set(sources))


ROWS = [
    {names.USER_ID: b"u", names.ITEM_ID: b"i", names.EVENT: b"view", names.TIMESTAMP: 86_400},
    {names.USER_ID: b"u", names.ITEM_ID: b"i", names.EVENT: b"view", names.TIMESTAMP: 86_400},
    {names.USER_ID: None, names.ITEM_ID: b"i", names.EVENT: b"view", names.TIMESTAMP: 86_400},
    {names.USER_ID: b"v", names.ITEM_ID: b"j", names.EVENT: b"return", names.TIMESTAMP: 86_400},
    *(
        {names.USER_ID: b"bot", names.ITEM_ID: b"i%d" % n, names.EVENT: b"view", names.TIMESTAMP: 90_000}
        for n in range(4)
    ),
    {names.USER_ID: b"v", names.ITEM_ID: b"gone", names.EVENT: b"view", names.TIMESTAMP: 86_401},
]


def test_rows_are_counted_with_their_first_ones(tmp_path):
    report, kept, quarantined = judged(tmp_path, ROWS)
    assert report["taken"] == {"duplicate_event": 1, "missing_user": 1, "weightless_event": 1, "bot": 4}
    assert report["rules"]["bot"] == {"count": 4, "first_rows": ["a.csv:6", "a.csv:7", "a.csv:8"]}
    assert [row[names.SOURCE_ROW] for row in kept] == [[b"a.csv:2"], [b"a.csv:10"]]
    assert [row[names.REASON] for row in quarantined] == [[b"bot"]] * 4
    assert quarantined[0][names.ITEM_ID] == [b"i0"]


def test_the_catalogue_takes_out_what_it_does_not_have(tmp_path):
    report, _, _ = judged(tmp_path, ROWS)
    drop_unknown_items(report, str(tmp_path / "span"), pa.array([b"i", b"j"]))
    assert report["rules"]["unknown_item"] == {"count": 1, "first_rows": ["a.csv:10"]}
    assert (report["kept"], report["taken"]["unknown_item"]) == (1, 1)


def test_buckets_do_not_matter(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    one, many = judged(tmp_path / "one", ROWS), judged(tmp_path / "many", ROWS, buckets=5)
    assert json.dumps(one[0], sort_keys=True) == json.dumps(many[0], sort_keys=True)
    for parted in (1, 2):
        assert sorted(map(repr, one[parted])) == sorted(map(repr, many[parted]))


def test_days_are_judged_beside_each_other(tmp_path):
    report, _, _ = judged(tmp_path, ROWS)
    assert find_days({SPAN: report}, names.BEHAVIORS, LIMITS) == []


@pytest.mark.parametrize(("source", "order"), [("a/b.csv:10", ("a/b.csv", 10)), ("a:b.csv:2", ("a:b.csv", 2))])
def test_rows_are_in_the_order_of_their_files(source, order):
    assert row_order(source) == order
