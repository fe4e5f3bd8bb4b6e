"""The whole pipeline on a small shop: what a second run does, what bad data does, and what is left behind."""

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from components.evaluation_results import ALL
from pipeline.config import load_config
from pipeline.local_runner import metadata_of, run_locally
from pipeline.outcome import read_outcome
from schema import names
from schema.errors import GateRefused, HomefeedError, InputError
from schema.saved_model import ServableModel
from tests.bucket import BUCKET
from tests.comparing import assert_same_artifacts
from tests.conftest import SETTINGS

BEHAVIOR_COLUMNS = (names.USER_ID, names.ITEM_ID, names.EVENT, names.TIMESTAMP)


def rows_of(table: str, count: int = 40) -> list[list[str]]:
    if table == names.CATALOG:
        return [[f"i{n}", f"Title {n}"] for n in range(10)]
    return [[f"u{n % 5}", f"i{n // 5 % 10}", "view", str(1_700_000_000 + 3_600 * n)] for n in range(count)]


def write(folder: Path, table: str, rows: list[list[str]], encoding: str = "utf-8") -> None:
    (folder / table).mkdir(parents=True, exist_ok=True)
    header = BEHAVIOR_COLUMNS if table == names.BEHAVIORS else (names.ITEM_ID, names.TITLE)
    with (folder / table / f"{table}.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([header, *rows])


def run(folder: Path, workspace: Path, *assignments: str):
    config = load_config(None, (*SETTINGS, *assignments))
    folders = {table: str(folder / table) for table in (names.BEHAVIORS, names.CATALOG)}
    return run_locally(config, folders, str(workspace))


def served_files(workspace: Path) -> dict[str, int]:
    """What a model server would see."""
    return {str(p): p.stat().st_mtime_ns for p in (workspace / "serving").rglob("*")}


def test_a_second_run_on_unchanged_input_runs_nothing_again(shop, config):
    before = served_files(shop.workspace)
    outcome = run_locally(config, shop.folders, str(shop.workspace))
    ran = {step for step, (state, _) in outcome.steps.items() if state != "cached"}
    assert ran == {"BaselineResolver"}  # a look into the metadata, not a computation
    assert outcome.pushed == shop.version
    assert served_files(shop.workspace) == before


def test_every_step_of_the_design_is_there(shop, config):
    outcome = run_locally(config, shop.folders, str(shop.workspace))
    assert set(outcome.steps) == {
        *(f"{t}{s}" for t in ("Behaviors", "Catalog") for s in ("ExampleGen", "StatisticsGen", "Validator")),
        *(f"{t}RowValidator" for t in ("Behaviors", "Catalog")),
        *(f"{t}SchemaGen" for t in ("Behaviors", "Catalog", "Interactions")),
        *("DataGate", "TextEmbeddingGen", "InteractionGen", "SliceGen", "Transform", "Trainer"),
        *("BaselineResolver", "Evaluator", "ServingValidator", "Pusher", "ModelCard", "BatchRecommender"),
    }
    evaluation = outcome.evaluation
    assert evaluation.passed and not evaluation.has_baseline
    assert {f"activity={band}" for band in ("light", "regular")} <= evaluation.metrics.keys()
    assert evaluation.metrics[ALL]["recall_at_20_lower"] < evaluation.metrics[ALL]["recall_at_20"]
    assert evaluation.metrics[ALL]["coverage_at_20"] > 0 and "auc_view" in evaluation.metrics[ALL]
    checks = {(check.metric, check.slice, check.asked): check.passed for check in evaluation.checks}
    assert checks[("recall_at_20", ALL, "at most 0.95")] and all(checks.values())


def test_the_batch_of_recommendations_has_every_user(shop):
    (file,) = shop.artifact("BatchRecommender", "recommendations").glob("recommendations-*.csv")
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    assert list(rows[0]) == ["user_id", "item_id", "rank", "score"]
    users = (shop.version / "assets" / "user_ids.txt").read_text().split()
    assert {row["user_id"] for row in rows} == set(users)
    first = [row for row in rows if row["user_id"] == users[0]]
    assert [int(row["rank"]) for row in first] == list(range(1, 21))


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        (names.BEHAVIORS, ["u1", "i1", "view", "-5"], ["negative_timestamp", "behaviors.csv:42", "1970"]),
        (names.BEHAVIORS, ["u1", "i1", "view", "4102444800"], ["future_timestamp", "behaviors.csv:42", "clock"]),
        (names.BEHAVIORS, ["u1", "i1", "view", "1700000000000"], ["future_timestamp", "milliseconds"]),
        (names.BEHAVIORS, ["u1", "elsewhere", "view", "1700000000"], ["unknown_item", "behaviors.csv:42", "catalog"]),
        (names.BEHAVIORS, ["u1", "i1"], ["broken_row", "behaviors.csv:42"]),
        (names.CATALOG, ["i3", "Another"], ["duplicate_item", "catalog.csv:12", "one row for each item"]),
        (names.CATALOG, ["i99", "x" * 100_000], ["long_text", "catalog.csv:12", "max_bytes"]),
        (names.CATALOG, ["i99", "caf\udce9"], ["invalid_utf8", "catalog.csv:12", "UTF-8"]),
    ],
    ids=["negative", "future", "milliseconds", "unknown item", "short row", "double item", "long title", "utf-8"],
)
def test_bad_rows_stop_the_run_at_the_gate_and_are_named(tmp_path, table, change, words):
    for name in (names.BEHAVIORS, names.CATALOG):
        write(tmp_path, name, rows_of(name))
    with (tmp_path / table / f"{table}.csv").open("a", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerow(change)
    (tmp_path / "w" / "serving" / "homefeed" / "1").mkdir(parents=True)
    (tmp_path / "w" / "serving" / "homefeed" / "1" / "saved_model.pb").write_text("the model pushed before")
    before = served_files(tmp_path / "w")
    with pytest.raises(GateRefused) as error:
        run(tmp_path, tmp_path / "w")
    assert error.value.exit_code == 3
    assert all(word in str(error.value) for word in words), str(error.value)
    assert served_files(tmp_path / "w") == before
    verdict = read_outcome(metadata_of(tmp_path / "w"))
    assert not verdict.blessed and words[0] in {found["rule"] for found in verdict.findings}
    steps = {p.name for p in (tmp_path / "w" / "artifacts").iterdir()}
    assert not steps & {"TextEmbeddingGen", "InteractionGen", "Transform", "Trainer", "Pusher"}
    (report,) = (tmp_path / "w" / "reports").glob("*.html")
    html = report.read_text(encoding="utf-8")
    assert words[0] in html and "not pushed" in html and "did not run" in html


@pytest.mark.slow
def test_a_log_without_anything_new_to_hold_out_pushes_nothing(tmp_path):
    write(tmp_path, names.CATALOG, rows_of(names.CATALOG))
    write(tmp_path, names.BEHAVIORS, [[f"u{n % 5}", "i1", "view", str(1_700_000_000 + 3_600 * n)] for n in range(40)])
    outcome = run(tmp_path, tmp_path / "w", "model.epochs=1")
    assert outcome.pushed is None
    assert any("no held-out" in refusal for refusal in outcome.refusals)


def test_input_that_cannot_be_read_leaves_no_workspace(tmp_path):
    write(tmp_path, names.BEHAVIORS, rows_of(names.BEHAVIORS))
    with pytest.raises(InputError, match="catalog"):
        run(tmp_path, tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_file_that_breaks_off_inside_is_named_with_the_code_of_bad_input(tmp_path):
    for name in (names.BEHAVIORS, names.CATALOG):
        write(tmp_path, name, rows_of(name))
    (tmp_path / names.CATALOG / "catalog.csv").unlink()
    table = pa.table({names.ITEM_ID: [f"i{n}" for n in range(50_000)], names.TITLE: ["t"] * 50_000})
    pa.parquet.write_table(table, tmp_path / names.CATALOG / "catalog.parquet", use_dictionary=False)
    with (tmp_path / names.CATALOG / "catalog.parquet").open("r+b") as file:
        file.seek(1_000)
        file.write(bytes(59_000))
    with pytest.raises(InputError, match=r"catalog\.parquet: cannot be read to its end"):
        run(tmp_path, tmp_path / "w")


def test_a_workspace_in_use_is_refused(shop_data, tmp_path):
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another run") as error:
        run(shop_data, tmp_path)
    assert error.value.exit_code == 2


def test_a_log_that_spans_no_time_is_refused(tmp_path):
    write(tmp_path, names.CATALOG, rows_of(names.CATALOG))
    write(tmp_path, names.BEHAVIORS, [["u", "i1", "view", "1700000000"], ["u", "i2", "view", "1700000001"]])
    with pytest.raises(InputError, match="one hour"):
        run(tmp_path, tmp_path / "w")


@pytest.mark.slow
def test_a_model_below_the_floor_or_worse_than_the_last_pushed_is_not_pushed(shop, tmp_path):
    workspace = tmp_path / "w"
    shutil.copytree(shop.workspace, workspace, ignore=shutil.ignore_patterns(".lock"))
    before = served_files(workspace)
    untrained = tuple(f"{s}.{key}" for s in ("model", "ranking") for key in ("learning_rate=1.0e-7", "epochs=1"))
    outcome = run(shop.behaviors.parent, workspace, "evaluation.thresholds.recall.at_least=0.99", *untrained)
    assert outcome.pushed is None and outcome.evaluation.has_baseline
    reasons = [r for r in outcome.refusals if "of all users" in r]
    assert sum("recall_at_20 of" in r and "at least 0.99" in r for r in reasons) == 1
    compared = {(check.metric, check.slice): check for check in outcome.evaluation.checks}
    assert compared["recall_at_20_change", ALL].asked == "a drop of at most 5%"
    assert outcome.card is not None and "refused" in (outcome.card / "model_card.md").read_text()
    assert served_files(workspace) == before


def test_a_step_that_fails_for_its_own_reasons_names_itself_and_the_log(tmp_path, monkeypatch):
    for name in (names.BEHAVIORS, names.CATALOG):
        write(tmp_path, name, rows_of(name))

    def broken(*_):
        raise ZeroDivisionError("of the test")

    monkeypatch.setattr("components.data_gate.row_findings", broken)
    with pytest.raises(
        HomefeedError, match=r"DataGate failed \(ZeroDivisionError: of the test\); see .*run-.*\.log"
    ) as e:
        run(tmp_path, tmp_path / "w")
    assert e.value.exit_code == 1


def test_the_command_line_says_one_sentence_and_exits_with_the_gate_s_code(tmp_path):
    for name in (names.BEHAVIORS, names.CATALOG):
        write(tmp_path, name, rows_of(name))
    write(tmp_path, names.BEHAVIORS, [*rows_of(names.BEHAVIORS), ["u1", "i1", "view", "-5"]])
    command = [sys.executable, "-m", "pipeline.cli", "run", "--behaviors", str(tmp_path / names.BEHAVIORS)]
    command += ["--catalog", str(tmp_path / names.CATALOG), "--workspace", str(tmp_path / "w")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 3
    *_, last = result.stderr.strip().splitlines()
    assert last.startswith("homefeed: the data gate refused the data.") and "behaviors.csv:42" in last
    assert "Traceback" not in result.stderr


KILLED = (
    ("BehaviorsExampleGen", 0.5),
    ("BehaviorsStatisticsGen", 1.0),
    ("BehaviorsRowValidator", 1.5),
    ("TextEmbeddingGen", 8.0),
    ("InteractionGen", 3.0),
    ("Transform", 10.0),
    ("Trainer", 10.0),
    ("Pusher", 0.0),
)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "seconds"), KILLED, ids=[step for step, _ in KILLED])
def test_a_killed_run_starts_again_and_ends_like_one_that_was_not(shop, config, tmp_path, step, seconds):
    workspace = tmp_path / "w"
    command = [sys.executable, "-m", "pipeline.cli", "run", "--workspace", str(workspace)]
    command += ["--behaviors", str(shop.behaviors), "--catalog", str(shop.catalog)]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        for line in process.stderr:
            if line.startswith(step):
                time.sleep(seconds)  # into the step
                process.kill()
                break
    assert process.returncode != 0
    base = workspace / "serving" / names.MODEL_NAME
    assert not base.exists() or not [p for p in base.iterdir() if p.name.isdecimal()]
    whole = step in ("Trainer", "Pusher")
    outcome = run_locally(config, shop.folders, str(workspace), until=None if whole else "Transform")
    assert_same_artifacts(workspace, shop.workspace)
    if whole:
        assert outcome.steps["BehaviorsExampleGen"][0] == "cached"
        assert [p for p in base.iterdir() if p.name.isdecimal()] == [outcome.pushed]
        users = (shop.version / "assets" / "user_ids.txt").read_text().split()[:20]
        ask = {names.USER_ID: np.array(users, object), names.K: np.array([10], np.int32)}
        mine, undisturbed = (ServableModel(str(v))(names.RECOMMEND, ask) for v in (outcome.pushed, shop.version))
        assert mine[names.ITEM_IDS].tolist() == undisturbed[names.ITEM_IDS].tolist()
        # Not nearer than the texts' embeddings, which depend a little on what they were batched with.
        np.testing.assert_allclose(mine[names.SCORES], undisturbed[names.SCORES], rtol=1e-4)


@pytest.mark.slow
def test_a_log_in_a_bucket_is_read_like_that_of_a_folder(shop, config, bucket, tmp_path):
    for folder in shop.folders.values():
        for file in Path(folder).rglob("*.csv"):
            bucket[str(file.relative_to(shop.behaviors.parent))] = file.read_bytes()
    folders = {table: f"gs://{BUCKET}/{table}" for table in shop.folders}
    run_locally(config, folders, str(tmp_path / "w"), until="Transform")
    assert_same_artifacts(tmp_path / "w", shop.workspace)
