import pyarrow as pa
import pytest

from components.columnar import arrow_type, to_batch
from components.row_validator import judge
from components.rules import RULES, Kind, Limits, Rows
from pipeline.sections.gate import Gate
from schema import names

DAY = "1970-01-02"
LIMITS = Limits(
    events={"view": 1.0, "return": 0.0},
    latest_timestamp=100_000,
    max_bytes={names.CATALOG: {names.TITLE: 10}},
    item_id_pattern="i.*",
    expected={names.BEHAVIORS: (names.SOURCE,)},
)
TREATMENT = {name: rule.rows for name, rule in RULES.items()}
GOOD = {
    names.BEHAVIORS: {
        names.USER_ID: b"u",
        names.ITEM_ID: b"i",
        names.EVENT: b"view",
        names.TIMESTAMP: 90_000,
        names.SOURCE: b"web",
    },
    names.CATALOG: {names.ITEM_ID: b"i", names.TITLE: b"I"},
    names.USERS: {names.USER_ID: b"u"},
}


def table(rows, name=names.BEHAVIORS, span=DAY):
    """Rows of a table: dicts of column -> value, on top of a good row; None takes a value out."""
    kinds = {**names.COLUMNS[name], **names.ROW_COLUMNS}
    whole = [{names.SOURCE_ROW: b"a.csv:%d" % n, **GOOD[name], **row} for n, row in enumerate(rows, start=2)]
    columns = {column: pa.array([r.get(column) for r in whole], arrow_type(kind)) for column, kind in kinds.items()}
    return Rows(to_batch(columns), name, span)


def broken_by(row, name=names.BEHAVIORS, limits=LIMITS):
    _, broken = judge(table([row], name), limits, TREATMENT)
    return set(broken)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({names.USER_ID: None}, "missing_user"),
        ({names.ITEM_ID: None}, "missing_item"),
        ({names.EVENT: None}, "missing_event"),
        ({names.EVENT: b"hover"}, "unknown_event"),
        ({names.EVENT: b"return"}, "weightless_event"),
        ({names.TIMESTAMP: None}, "bad_timestamp"),
        ({names.TIMESTAMP: None, names.UNREADABLE: names.TIMESTAMP.encode()}, "bad_timestamp"),
        ({names.TIMESTAMP: -1}, "negative_timestamp"),
        ({names.TIMESTAMP: 100_001}, "future_timestamp"),
        ({names.TIMESTAMP: 100_000}, None),
        ({names.TIMESTAMP: 86_400 - 3_600}, None),
        ({names.TIMESTAMP: 86_400 - 3_601}, "wrong_day"),
        ({names.USER_ID: b"\xff"}, "invalid_utf8"),
        ({names.COMMENT: b"caf\xe9"}, "invalid_utf8"),
        ({names.COMMENT: "cafÃ©".encode()}, "garbled_text"),
        ({names.COMMENT: "café".encode()}, None),
        ({names.COMMENT: "�".encode()}, "garbled_text"),
        ({names.USER_ID: b"u "}, "bad_id"),
        ({names.USER_ID: b"u\n2"}, "bad_id"),
        ({names.USER_ID: b"NULL"}, "null_word"),
        ({names.USER_ID: b"Nullman"}, None),
        ({names.ITEM_ID: b"POST"}, "odd_item_id"),
        ({names.VALUE: -1.0}, "bad_value"),
        ({names.VALUE: float("nan")}, "bad_value"),
        ({names.VALUE: float("inf")}, "bad_value"),
        ({names.UNREADABLE: names.VALUE.encode()}, "unreadable_value"),
        ({names.SOURCE: None}, "missing_value"),
        ({names.BROKEN_ROW: 1, names.USER_ID: None}, "broken_row"),
    ],
)
def test_a_row_of_the_log_breaks_one_rule(changes, rule):
    also = {"wrong_day"} if changes.get(names.TIMESTAMP) == -1 else set()
    assert broken_by(changes) == ({rule} if rule else set()) | also


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({names.ITEM_ID: None}, "missing_item"),
        ({names.TITLE: None}, "missing_title"),
        ({names.TITLE: b"x" * 11}, "long_text"),
        ({names.TITLE: b"x" * 10}, None),
        ({names.PRICE: -0.5}, "bad_price"),
        ({names.PRICE: float("nan")}, "bad_price"),
        ({names.PRICE: 0.0}, None),
        ({names.UNREADABLE: names.PRICE.encode()}, "unreadable_value"),
    ],
)
def test_a_row_of_the_catalogue_breaks_one_rule(changes, rule):
    assert broken_by(changes, names.CATALOG) == ({rule} if rule else set())


def test_a_row_of_the_users_breaks_one_rule():
    assert broken_by({}, names.USERS) == set()
    assert broken_by({names.USER_ID: None}, names.USERS) == {"missing_user"}


def test_a_row_may_break_several_rules_and_the_first_takes_it_out():
    taken, broken = judge(table([{names.USER_ID: None, names.ITEM_ID: None}, {}]), LIMITS, TREATMENT)
    assert set(broken) == {"missing_user", "missing_item"} and taken.tolist() == ["missing_user", None]
    taken, broken = judge(table([{names.TITLE: None, names.PRICE: -1.0}], names.CATALOG), LIMITS, TREATMENT)
    assert set(broken) == {"missing_title", "bad_price"} and taken.tolist() == [None]


def test_a_table_without_days_has_no_wrong_day():
    _, broken = judge(table([{names.TIMESTAMP: 5}], span=names.ALL_SPLIT), LIMITS, TREATMENT)
    assert broken == {}


def test_every_rule_says_what_it_is_and_what_to_do():
    assert set(Gate().rules) == set(RULES)
    for rule in RULES.values():
        assert rule.what and rule.do and rule.severity in ("error", "warning", "info")
        assert rule.rows in ("keep", "drop", "quarantine")
        if rule.kind is Kind.DAY:
            assert rule.rows == "keep"
