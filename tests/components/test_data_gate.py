import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.data_gate import explain, row_findings, schema_findings
from components.rules import RULES
from schema import names

RULE_SETTINGS = {n: {"severity": r.severity, "max_share": r.max_share, "rows": r.rows} for n, r in RULES.items()}


def report(spans, days=(), table=names.BEHAVIORS):
    """`rows.json` of spans: name -> (rows, {rule: count})."""
    return {
        "table": table,
        "days": list(days),
        "spans": {
            name: {
                "rows": rows,
                "kept": rows - sum(broken.values()),
                "rules": {rule: {"count": n, "first_rows": [f"{name}/a.csv:2"]} for rule, n in broken.items()},
            }
            for name, (rows, broken) in spans.items()
        },
    }


def severities(report_, **changes):
    rules = {**RULE_SETTINGS, **{name: {**RULE_SETTINGS[name], **change} for name, change in changes.items()}}
    return {found["rule"]: found["severity"] for found in row_findings(report_, rules)}


@pytest.mark.parametrize(("count", "severity"), [(300, "info"), (301, "error")])
def test_a_share_of_the_log_is_tolerated(count, severity):
    assert severities(report({"d": (1_000, {"missing_user": count})})) == {"missing_user": severity}


def test_a_single_day_may_have_three_times_the_share_and_some_chance():
    clean = {f"d{n}": (1_000, {}) for n in range(20)}
    assert severities(report({**clean, "bad": (1_000, {"unknown_event": 40})})) == {"unknown_event": "info"}
    (found,) = row_findings(report({**clean, "bad": (1_000, {"unknown_event": 60})}), RULE_SETTINGS)
    assert found["severity"] == "error" and "of the rows of bad" in found["detail"]
    assert severities(report({**clean, "tiny": (5, {"unknown_event": 1})})) == {"unknown_event": "info"}


def test_the_configuration_says_how_severe_a_rule_is():
    bad = report({"d": (10, {"bad_id": 1})})
    assert severities(bad) == {"bad_id": "error"}
    assert severities(bad, bad_id={"severity": "warning"}) == {"bad_id": "warning"}
    assert severities(bad, bad_id={"max_share": 0.1}) == {"bad_id": "info"}


def test_a_log_without_usable_rows_is_refused():
    assert severities(report({"d": (0, {})})) == {"no_rows": "error"}
    assert severities(report({"d": (2, {"weightless_event": 2})}))["no_rows"] == "error"


def test_days_are_told_with_what_was_found_and_do_no_harm_when_put_aside():
    days = [{"rule": "clock_shift", "span": "d", "detail": "looks moved"}]
    (found,) = row_findings(report({"d": (10, {}), "e": (30, {})}, days), RULE_SETTINGS)
    assert (found["severity"], found["share"], found["examples"]) == ("error", 0.25, ["d: looks moved"])
    aside = {**RULE_SETTINGS, "clock_shift": {**RULE_SETTINGS["clock_shift"], "rows": "quarantine"}}
    (found,) = row_findings(report({"d": (10, {}), "e": (30, {})}, days), aside)
    assert found["severity"] == "warning"


def anomalies(column, kind, severity=anomalies_pb2.AnomalyInfo.ERROR):
    found = anomalies_pb2.Anomalies()
    info = found.anomaly_info[column]
    info.severity = severity
    reason = info.reason.add(type=kind, description="It is so.", short_description="So")
    assert reason.type == kind
    return found


def test_schema_anomalies_are_told_once_for_a_column_and_its_days():
    types = anomalies_pb2.AnomalyInfo
    drift, wrong_type = types.COMPARATOR_L_INFTY_HIGH, types.UNEXPECTED_DATA_TYPE
    by_day = {"d": anomalies("price", wrong_type), "e": anomalies("price", wrong_type), "f": anomalies("event", drift)}
    rows = {"d": 10, "e": 20, "f": 30}
    event, price = schema_findings(names.CATALOG, by_day, {"DRIFT": "warning"}, rows)
    assert (event["severity"], event["rule"]) == ("warning", "comparator_l_infty_high")
    assert (price["severity"], price["count"], price["detail"]) == ("error", 30, "2 days")
    assert "schema/catalog.pbtxt" in price["what"] and price["examples"][0] == "d: It is so"
    severe = list(schema_findings(names.CATALOG, by_day, {"DRIFT": "error"}, rows))
    assert [found["severity"] for found in severe] == ["error", "error"]


def test_a_finding_is_one_sentence_with_the_rule_the_row_and_what_to_do():
    (found,) = row_findings(report({"d": (100, {"bad_id": 2})}), RULE_SETTINGS)
    sentence = explain(found)
    assert all(words in sentence for words in ("behaviors", "bad_id", "2 rows", "2.00%", "d/a.csv:2", "mend the ids"))
    assert "\n" not in sentence
