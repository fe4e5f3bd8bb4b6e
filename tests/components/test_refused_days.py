"""Which days a cluster's next run leaves out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfx.types.standard_artifacts import ExampleAnomalies, Examples

from components import data_gate
from components.artifacts import DataBlessing, RowAnomalies
from components.data_gate import DataGate
from components.refused_days import left_out, note
from components.rules import RULES
from components.spans import Span, name_splits, spans_of
from components.table_example_gen import TableExampleGen
from pipeline.config import load_config
from schema import names
from schema.errors import InputError

DAYS = [Span(f"2025-01-{n:02d}", f"f{n}") for n in range(1, 7)]


def test_what_is_new_is_to_blame_and_of_that_what_breaks_a_rule(tmp_path):
    cache = str(tmp_path / "cache")
    note(cache, DAYS[:2], False, {DAYS[1].name})
    assert left_out(cache) == []  # nobody knows yet what is good
    note(cache, DAYS[:2], True, set())
    note(cache, DAYS[:4], False, {DAYS[0].name, DAYS[3].name})
    assert left_out(cache) == [DAYS[3]]
    note(cache, DAYS[:3], True, set())
    note(cache, [*DAYS[:3], *DAYS[4:]], False, set())  # no day breaks a rule by itself
    assert left_out(cache) == [DAYS[3], *DAYS[4:]]


def test_a_day_that_is_mended_is_judged_anew(tmp_path):
    cache, mended = str(tmp_path), Span(DAYS[1].name, "mended")
    note(cache, DAYS[:1], True, set())
    note(cache, DAYS[:2], False, set())
    assert left_out(cache) == [DAYS[1]]
    note(cache, [DAYS[0], mended], False, set())
    assert left_out(cache) == [mended]
    changed = Span(DAYS[0].name, "late rows")
    note(cache, [changed], False, set())
    assert left_out(cache) == [mended, changed]


@given(st.lists(st.tuples(st.booleans(), st.sets(st.sampled_from(range(6)))), max_size=8))
def test_what_was_blessed_last_is_never_left_out(tmp_path_factory, runs):
    cache, there, blessed = str(tmp_path_factory.mktemp("c")), 1, []
    for is_blessed, at_fault in runs:
        window = [day for day in DAYS[:there] if day not in left_out(cache)]
        note(cache, window, is_blessed, {DAYS[n].name for n in at_fault})
        blessed = window if is_blessed else blessed
        assert not set(blessed) & set(left_out(cache))
        assert set(left_out(cache)) <= set(DAYS[:there])
        there = min(there + 1, len(DAYS))


@pytest.fixture
def folders(tmp_path):
    for day in ("2025-01-01", "2025-01-02"):
        (tmp_path / "behaviors" / day).mkdir(parents=True)
        (tmp_path / "behaviors" / day / "rows.csv").write_text("user_id,item_id,event,timestamp\nu,i,view,1735689600\n")
    return tmp_path


def judge(folders, monkeypatch, window, refused):
    """Runs DataGate over days, of which some tables are refused, each for its last day."""

    def findings(report, rules):
        if report["table"] in refused:
            yield data_gate._finding(report["table"], "no_rows", "", "error", 1, 1, [], "", "", days=[window[-1].name])

    monkeypatch.setattr(data_gate, "row_findings", findings)
    monkeypatch.setattr(data_gate, "_read_anomalies", lambda artifact: {})
    inputs, blessing = {}, DataBlessing()
    for prefix, table in (("behavior", names.BEHAVIORS), ("catalog", names.CATALOG)):
        rows, anomalies = RowAnomalies(), ExampleAnomalies()
        rows.uri = str(folders / f"{table}-rows")
        (folders / f"{table}-rows").mkdir(exist_ok=True)
        report = {"table": table, "spans": {}, "days": []}
        (folders / f"{table}-rows" / data_gate.FILE).write_text(json.dumps(report))
        name_splits(anomalies, window)
        inputs |= {f"{prefix}_rows": [rows], f"{prefix}_anomalies": [anomalies]}
    blessing.uri = str(folders / "blessing")
    (folders / "blessing").mkdir(exist_ok=True)
    rules = {name: {"severity": r.severity, "max_share": r.max_share, "rows": r.rows} for name, r in RULES.items()}
    told = {"rules": json.dumps(rules), "severities": "{}", "cache_folder": str(folders / "cache"), "code_version": ""}
    DataGate.EXECUTOR_SPEC.executor_class().Do(inputs, {"blessing": [blessing]}, told)


def window_of(folders):
    """The days that TableExampleGen takes where it has to look for itself."""
    examples = Examples()
    examples.uri = str(folders / "examples")
    told = {
        "table": names.BEHAVIORS,
        "base": str(folders / "behaviors"),
        "suffix": "",
        "spans": "",
        "days": 0,
        "columns": json.dumps(load_config().table_columns(names.BEHAVIORS)),
        "privacy": "{}",
        "key_check": "",
        "cache_folder": str(folders / "cache"),
        "code_version": "",
    }
    TableExampleGen.EXECUTOR_SPEC.executor_class().Do({}, {"examples": [examples]}, told)
    return spans_of(examples)


def test_the_run_after_a_refusal_leaves_the_day_out(folders, monkeypatch):
    first = window_of(folders)
    judge(folders, monkeypatch, first[:1], set())
    judge(folders, monkeypatch, first, {names.BEHAVIORS, names.CATALOG})
    assert window_of(folders) == first  # the catalogue may be to blame
    judge(folders, monkeypatch, first, {names.BEHAVIORS})
    assert window_of(folders) == first[:1]
    (folders / "behaviors" / "2025-01-02" / "rows.csv").write_text(
        "user_id,item_id,event,timestamp\nu,j,view,1735776000\n"
    )
    assert [day.name for day in window_of(folders)] == ["2025-01-01", "2025-01-02"]


def test_a_log_whose_days_are_all_refused_is_told(folders):
    days = window_of(folders)
    note(str(folders / "cache"), DAYS, True, set())
    note(str(folders / "cache"), days, False, set())
    with pytest.raises(InputError, match="every day was refused"):
        window_of(folders)
