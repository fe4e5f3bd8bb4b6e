import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.data_gate import row_reasons, schema_reasons
from components.row_rules import RULES, WORDS, Limits, first_broken, is_usable
from components.row_validator import validate_rows
from pipeline.config import Gate
from schema import names

LIMITS = Limits(frozenset({"view"}), latest_timestamp=1_000, max_title_bytes=10)


def event(row: int, **changes):
    good = {
        names.SOURCE_ROW: [f"a.csv:{row}".encode()],
        names.USER_ID: [b"u"],
        names.ITEM_ID: [b"i"],
        names.EVENT: [b"view"],
        names.TIMESTAMP: [row],
    }
    return {k: v for k, v in {**good, **changes}.items() if v is not None}


def item(row: int, **changes):
    good = {names.SOURCE_ROW: [f"c.csv:{row}".encode()], names.ITEM_ID: [b"i"], names.TITLE: [b"I"]}
    return {k: v for k, v in {**good, **changes}.items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({names.USER_ID: None}, "missing_user"),
        ({names.ITEM_ID: None}, "missing_item"),
        ({names.EVENT: None}, "missing_event"),
        ({names.EVENT: [b"hover"]}, "unknown_event"),
        ({names.TIMESTAMP: None}, "bad_timestamp"),
        ({names.TIMESTAMP: [-1]}, "negative_timestamp"),
        ({names.TIMESTAMP: [1_001]}, "future_timestamp"),
        ({names.TIMESTAMP: [1_000]}, None),
        ({names.USER_ID: [b"\xff"]}, "invalid_utf8"),
        ({names.ITEM_ID: [b" i"]}, "bad_id"),
        ({names.ITEM_ID: [b"i\n2"]}, "bad_id"),
        ({names.ITEM_ID: [b"i" * 257]}, "bad_id"),
        ({names.BROKEN_ROW: [1], names.USER_ID: None}, "broken_row"),
    ],
)
def test_rules_of_behaviors(changes, rule):
    row = event(1, **changes)
    assert first_broken(row, names.BEHAVIORS, LIMITS) == rule
    assert is_usable(row, names.BEHAVIORS, LIMITS) == (rule is None)


@pytest.mark.parametrize(
    ("changes", "rule", "usable"),
    [
        ({}, None, True),
        ({names.TITLE: None}, "missing_title", True),
        ({names.TITLE: [b"x" * 11]}, "long_title", False),
        ({names.PRICE: [-1.0]}, "bad_price", True),
        ({names.PRICE: [float("nan")]}, "bad_price", True),
        ({names.PRICE: [float("inf")]}, "bad_price", True),
        ({names.PRICE: [0.0]}, None, True),
        ({names.TITLE: [b"\xe4"]}, "invalid_utf8", False),
    ],
)
def test_rules_of_the_catalog(changes, rule, usable):
    row = item(1, **changes)
    assert first_broken(row, names.CATALOG, LIMITS) == rule
    assert is_usable(row, names.CATALOG, LIMITS) == usable


def test_findings_are_counted_and_name_their_first_rows():
    behaviors = [
        *(event(row) for row in (2, 3)),
        event(4, timestamp=[3]),  # the same event as row 3
        event(5, user_id=None),
        event(6, item_id=[b"elsewhere"]),
        *(event(row, timestamp=[-row]) for row in range(10, 15)),
    ]
    catalog = [item(2), item(3), item(4, item_id=[b"j"])]
    expected = {
        names.BEHAVIORS: {
            "rows": 10,
            "rules": {
                "duplicate_event": {"count": 1, "first_rows": ["a.csv:4"]},
                "missing_user": {"count": 1, "first_rows": ["a.csv:5"]},
                "negative_timestamp": {"count": 5, "first_rows": ["a.csv:10", "a.csv:11", "a.csv:12"]},
                "unknown_item": {"count": 1, "first_rows": ["a.csv:6"]},
            },
        },
        names.CATALOG: {"rows": 3, "rules": {"duplicate_item": {"count": 1, "first_rows": ["c.csv:3"]}}},
    }
    with TestPipeline() as pipeline:
        found = validate_rows(pipeline | "b" >> beam.Create(behaviors), pipeline | "c" >> beam.Create(catalog), LIMITS)
        assert_that(found, equal_to([expected]))


def test_every_rule_has_words_and_a_default_bound():
    rules = {rule for table in RULES.values() for rule in table}
    assert rules | {"unknown_item", "duplicate_event", "duplicate_item"} == set(WORDS) == set(Gate().max_share)


def test_the_gate_speaks_of_the_rules_that_are_broken_too_often_only():
    report = {"behaviors": {"rows": 100, "rules": {"missing_user": {"count": 3, "first_rows": ["a.csv:5"]}}}}
    assert row_reasons(report, {"missing_user": 0.03}) == []
    (reason,) = row_reasons(report, {"missing_user": 0.02})
    assert all(words in reason for words in ("3 of 100", "missing_user", "a.csv:5", "gate.max_share.missing_user"))
    assert row_reasons({"catalog": {"rows": 0, "rules": {}}}, {}) == [
        "catalog: no rows at all; give a folder that holds some."
    ]


def test_schema_anomalies_block_when_they_are_errors():
    anomalies = anomalies_pb2.Anomalies()
    for name, severity in (("price", anomalies_pb2.AnomalyInfo.ERROR), ("title", anomalies_pb2.AnomalyInfo.WARNING)):
        anomalies.anomaly_info[name].severity = severity
        anomalies.anomaly_info[name].description = "Out of range."
    (reason,) = schema_reasons(names.CATALOG, anomalies)
    assert "price" in reason and "schema/catalog.pbtxt" in reason
