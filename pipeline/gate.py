"""`homefeed gate`: the verdict of every gate on one model, with the evidence."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from components.artifacts import DataBlessing
from components.data_gate import explain, read_verdict
from components.evaluation_results import read_evaluation
from components.serving_checks import CHECKS
from components.serving_validator import read_serving_verdict
from pipeline.lineage import Lineage, Store
from schema import names
from schema.fingerprints import fingerprint_of
from schema.plain import plain

DATA, EVALUATION, SERVING, PUSH = "DataGate", "Evaluator", "ServingValidator", "Pusher"


@dataclass(frozen=True)
class Finding:
    """One thing that a gate has looked at: what, what was found, what is asked for, and whether it holds."""

    check: str
    found: str
    asked: str
    passed: bool


@dataclass
class Verdict:
    """Of one gate.

    Attributes:
      gate: the step's name.
      passed: None where the step did not run.
      artifact: where the evidence lies; empty where there is none.
      findings: the evidence.
      reasons: one sentence for each thing that speaks against the model.
    """

    gate: str
    passed: bool | None = None
    artifact: str = ""
    findings: list[Finding] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


@dataclass
class Judgement:
    """Of one model.

    Attributes:
      version: that it was pushed as; None where it was not.
      model: its artifact; empty where the run did not come so far.
      verdicts: of the gates, in their order.
    """

    version: int | None
    model: str
    verdicts: list[Verdict]

    @property
    def passed(self) -> bool:
        """Whether every gate has let it pass."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def reasons(self) -> list[str]:
        """Why not; empty where it passed."""
        return [f"{v.gate}: {reason}" for v in self.verdicts if not v.passed for reason in v.reasons]

    def as_json(self) -> str:
        """For release jobs; numbers that JSON has not are null."""
        return json.dumps({"passed": self.passed, **plain(asdict(self))}, indent=1)


def judge(store: Store, serving: Path, version: int | None = None, run: str = "") -> Judgement:
    """The verdicts on the model that was pushed as a version, or on what a run has made.

    Args:
      store: the workspace's ML Metadata.
      serving: the folder of pushed versions.
      version: of a pushed model; None for a run's, pushed or not.
      run: its name; the newest where empty.

    Raises:
      InputError: nothing has run, or no such version was pushed.
    """
    return judgement_of(store.of_run(run) if version is None else store.of_version(version), serving / names.MODEL_NAME)


def judgement_of(lineage: Lineage, versions: Path) -> Judgement:
    """The verdicts on the model of a lineage; `versions` is the folder of the pushed ones."""
    model = lineage.newest("Model")
    verdicts = [_of_data(lineage), _of_evaluation(lineage), _of_serving(lineage), _of_push(lineage, versions)]
    return Judgement(lineage.version, model.uri if model else "", verdicts)


def _of_data(lineage: Lineage) -> Verdict:
    artifact = lineage.newest(DataBlessing.TYPE_NAME)
    if artifact is None:
        return Verdict(DATA, reasons=["has not run."])
    verdict = read_verdict(artifact)
    findings = [
        Finding(
            f"{found['table']} {found['column']} {found['rule']}".replace("  ", " "),
            f"{found['share']:.2%}, {found['count']:,} rows",
            found["severity"],
            found["severity"] != "error",
        )
        for found in verdict["findings"]
    ]
    against = [explain(found) for found in verdict["findings"] if found["severity"] == "error"]
    return Verdict(DATA, bool(verdict["blessed"]), artifact.uri, findings, against)


def _of_evaluation(lineage: Lineage) -> Verdict:
    artifact = lineage.newest("ModelEvaluation")
    if artifact is None:
        return Verdict(EVALUATION, reasons=["has not run."])
    evaluation = read_evaluation(artifact.uri)
    findings = [Finding(f"{c.metric} of {c.slice}", c.found, c.asked, c.passed) for c in evaluation.checks]
    blessing = lineage.newest("ModelBlessing")
    blessed = blessing is not None and blessing.custom_properties["blessed"].int_value == 1
    reasons = [] if blessed else evaluation.refusals or ["TFMA did not bless the model."]
    return Verdict(EVALUATION, blessed, artifact.uri, findings, reasons)


def _of_serving(lineage: Lineage) -> Verdict:
    artifact = lineage.newest("InfraBlessing")
    if artifact is None:
        return Verdict(SERVING, reasons=["has not run."])
    verdict = read_serving_verdict(artifact.uri)
    findings, reasons = [], []
    if not isinstance(verdict["faults"], dict):
        return Verdict(SERVING, False, artifact.uri, reasons=["an earlier homefeed has checked it; run again."])
    for check, faults in verdict["faults"].items():
        some = faults[0] + (f" And {len(faults) - 1} more." if len(faults) > 1 else "") if faults else ""
        findings.append(Finding(check, some or verdict["measured"].get(check, ""), CHECKS[check], not faults))
        reasons += [f"{check}: {some}"] if faults else []
    blessed = artifact.custom_properties["blessed"].int_value == 1 and not reasons
    return Verdict(SERVING, blessed, artifact.uri, findings, reasons)


def _of_push(lineage: Lineage, versions: Path) -> Verdict:
    artifact = lineage.newest("PushedModel")
    if artifact is None or lineage.version is None:
        return Verdict(PUSH, None if artifact is None else False, reasons=["nothing was pushed."])
    folder = versions / str(lineage.version)
    pushed = artifact.custom_properties["fingerprint"].string_value
    found = fingerprint_of(folder) if folder.is_dir() else "gone"
    finding = Finding("fingerprint", found[:16], pushed[:16], found == pushed)
    words = "is not there any more." if found == "gone" else "does not hold what was pushed."
    return Verdict(PUSH, finding.passed, str(folder), [finding], [] if finding.passed else [f"{folder}: {words}"])


def print_judgement(judgement: Judgement, console: Console, everything: bool) -> None:
    """Shows the verdicts, and of the evidence what speaks against the model, or everything."""
    words = {True: "yes", False: "no", None: "did not run"}
    what = f"version {judgement.version}" if judgement.version else f"not pushed: {judgement.model or 'no model'}"
    gates = Table("gate", "passes", "checks", "evidence", title=f"Gates: {what}")
    for v in judgement.verdicts:
        style = None if v.passed else "red"
        missed = sum(not finding.passed for finding in v.findings)
        gates.add_row(v.gate, words[v.passed], f"{len(v.findings)}, {missed} missed", v.artifact, style=style)
    console.print(gates)
    evidence = Table("gate", "check", "found", "asked for", "")
    for v in judgement.verdicts:
        for f in v.findings:
            if everything or not f.passed:
                mark, style = ("", None) if f.passed else ("missed", "red")
                evidence.add_row(v.gate, f.check, f.found, f.asked, mark, style=style)
    if evidence.row_count:
        console.print(evidence)
