from components.row_validator import judge
from components.rules import Limits
from schema import names
from tests.components.rules.test_rows import TREATMENT, table

LIMITS = Limits(events={"view": 1.0, "purchase": 4.0}, max_events_per_hour=3)
HOUR = 86_400


def broken(rows, name=names.BEHAVIORS, limits=LIMITS):
    _, found = judge(table(rows, name), limits, TREATMENT)
    return {rule: mask.nonzero()[0].tolist() for rule, mask in found.items()}


def test_every_row_but_the_first_of_its_like_is_a_duplicate():
    same, other = {names.VALUE: 1.0}, {names.VALUE: 2.0}
    assert broken([same, other, same, {}, same, {}], limits=Limits(events={"view": 1.0})) == {
        "duplicate_event": [2, 4, 5]
    }


def test_an_item_or_a_user_is_there_once():
    assert broken([{}, {names.ITEM_ID: b"j"}, {names.TITLE: b"II"}], names.CATALOG) == {"duplicate_item": [2]}
    assert broken([{}, {names.USER_ID: b"v"}, {names.AGE: 5}], names.USERS) == {"duplicate_user": [2]}


def test_all_rows_of_a_bot_are_found_and_nobody_else_s():
    burst = [{names.USER_ID: b"bot", names.TIMESTAMP: HOUR + n} for n in range(4)]
    steady = [{names.USER_ID: b"u", names.TIMESTAMP: HOUR + 1_800 * n} for n in range(6)]
    later = [{names.USER_ID: b"bot", names.TIMESTAMP: HOUR + 50_000}]
    assert broken([*burst, *steady, *later]) == {"bot": [0, 1, 2, 3, 10]}
    assert broken(burst[:3]) == {}


def test_rows_without_a_user_are_no_bot():
    nobody = [{names.USER_ID: None, names.TIMESTAMP: HOUR + n} for n in range(9)]
    assert "bot" not in broken(nobody)


def test_a_purchase_wants_a_look_where_looks_are_logged():
    look = {names.ITEM_ID: b"i"}
    bought = {names.EVENT: b"purchase", names.TIMESTAMP: HOUR + 100}
    blind = {**bought, names.ITEM_ID: b"j"}
    assert broken([look, bought, blind]) == {"purchase_without_view": [2]}
    assert broken([bought, blind]) == {}
