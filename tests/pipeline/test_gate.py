"""`homefeed gate`, `release`, `rollback` and `status` on a real workspace."""

import json
import shutil

import pytest
from click.testing import CliRunner

from pipeline.cli import homefeed
from pipeline.gate import judge
from pipeline.lineage import Store
from pipeline.local_runner import metadata_of
from schema.errors import GateRefused, InputError


@pytest.fixture
def workspace(shop, tmp_path):
    """A copy whose pushes may be spoilt."""
    shutil.copytree(shop.workspace / "serving", tmp_path / "w" / "serving")
    shutil.copy(shop.workspace / "metadata.sqlite", tmp_path / "w")
    return tmp_path / "w"


def call(*arguments):
    return CliRunner().invoke(homefeed, [str(a) for a in arguments], catch_exceptions=True)


def test_the_verdict_of_a_pushed_version_names_every_gate_with_its_evidence(shop, workspace):
    version = int(shop.version.name)
    judgement = judge(Store(metadata_of(workspace)), workspace / "serving", version)
    assert judgement.passed and judgement.reasons == []
    assert [v.gate for v in judgement.verdicts] == ["DataGate", "Evaluator", "ServingValidator", "Pusher"]
    checks = {v.gate: {finding.check for finding in v.findings} for v in judgement.verdicts}
    assert "recall_at_20 of all users" in checks["Evaluator"]
    assert {"ops", "latency", "duplicates", "own_answers", "catalogue", "memory"} <= checks["ServingValidator"]
    told = json.loads(call("gate", "--workspace", workspace, "--candidate", version, "--json").stdout)
    assert told["passed"] is True and told["version"] == version
    findings = [f for f in told["verdicts"][1]["findings"] if f["check"] == "recall_at_20 of all users"]
    assert [f["asked"] for f in findings] == ["at least 0", "at most 0.95"]
    assert all(f["passed"] and "[" in f["found"] for f in findings)
    shown = call("gate", "--workspace", workspace)
    assert shown.exit_code == 0 and "ServingValidator" in shown.output


def test_a_version_that_was_changed_after_its_push_is_refused(shop, workspace):
    version = shop.version.name
    (workspace / "serving" / "homefeed" / version / "saved_model.pb").open("ab").write(b"\0")
    for command in (("gate", "--candidate", version), ("release", "--candidate", version)):
        refused = call(*command, "--workspace", workspace)
        assert isinstance(refused.exception, GateRefused)
        assert "does not hold what was pushed" in str(refused.exception)
    assert not (workspace / "serving" / "models.config").exists()


def test_what_never_went_through_the_gates_is_not_released(shop, workspace):
    shutil.copytree(shop.version, workspace / "serving" / "homefeed" / "7")
    refused = call("release", "--workspace", workspace, "--candidate", 7)
    assert isinstance(refused.exception, InputError)
    assert "7 was not pushed by a run" in str(refused.exception)
    assert "not of this workspace" in call("status", "--workspace", workspace).output


def test_release_status_and_rollback(shop, workspace):
    version = shop.version.name
    assert call("release", "--workspace", workspace, "--to", "canary", "--why", "try", "--who", "ci").exit_code == 0
    assert call("release", "--workspace", workspace).exit_code == 0
    shown = call("status", "--workspace", workspace).output
    assert version in shown and "stable" in shown and "pass" in shown and "ci" in shown
    refused = call("rollback", "--workspace", workspace)
    assert isinstance(refused.exception, InputError) and "no previous version" in str(refused.exception)
    assert f"value: {version}" in (workspace / "serving" / "models.config").read_text()


@pytest.mark.parametrize("command", ["gate", "release", "status"])
def test_a_folder_that_is_no_workspace_is_named(command, tmp_path):
    refused = call(command, "--workspace", tmp_path)
    assert isinstance(refused.exception, InputError) and "is no workspace" in str(refused.exception)
