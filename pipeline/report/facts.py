"""What a report tells of a run, read from ML Metadata and the run's artifacts."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.types import artifact_utils

from components.artifacts import DataBlessing, ModelCards
from components.data_gate import read_verdict
from components.evaluation_results import Evaluation, read_evaluation
from components.model_card import JSON_FILE
from components.span_statistics_gen import FILE as STATISTICS_FILE
from components.span_validator import FILE as ANOMALIES_FILE
from pipeline.gate import Judgement, judgement_of
from pipeline.lineage import Artifact, Lineage, Step, Store
from schema import names
from trainer.retrieval import CURVE_FILE

_TOP = 3  # values of a column that are told
_PRIVATE = {names.USER_ID}  # values of these columns are not


@dataclass
class Column:
    """A table's column over all days.

    Attributes:
      rows, missing: how many.
      most_values: distinct ones of the day that has the most; None for numbers.
      top: value -> rows, the most frequent first.
      lowest, mean, highest: of numbers; None for texts.
    """

    rows: float = 0
    missing: float = 0
    most_values: int | None = None
    top: Counter[str] = field(default_factory=Counter)
    lowest: float | None = None
    mean: float | None = None
    highest: float | None = None

    @property
    def told(self) -> str:
        """The values in words."""
        if self.mean is not None:
            return f"{self.lowest:,.4g} … {self.highest:,.4g}, mean {self.mean:,.4g}"
        return ", ".join(f"{value} ({count:,.0f})" for value, count in self.top.most_common(_TOP))


@dataclass
class Drift:
    """How far each day's column is from the day before: `days` -> distance, and the threshold."""

    days: dict[str, float] = field(default_factory=dict)
    threshold: float = 0.0


@dataclass
class RunFacts:
    """Of one run; what the run did not come to is empty.

    Attributes:
      name: of the run, the moment it began.
      version: that it pushed; None where it pushed none.
      judgement: the gates'.
      steps: in order.
      verdict: DataGate's, see `read_verdict`.
      days: behaviors' day -> event -> rows.
      columns: table -> column -> what is in it.
      drift: `table.column` -> distances.
      curves: training -> scalar -> (epoch, value).
      evaluation: the Evaluator's.
      index: points of the index's recall and latency, see `trainer.retrieval.Retriever.curve`.
      settings: the configuration.
      spans: table -> days.
      links: (step, step, artifact's type): what flowed.
    """

    name: str
    version: int | None
    judgement: Judgement
    steps: list[Step] = field(default_factory=list)
    verdict: dict[str, Any] = field(default_factory=dict)
    days: dict[str, dict[str, float]] = field(default_factory=dict)
    columns: dict[str, dict[str, Column]] = field(default_factory=dict)
    drift: dict[str, Drift] = field(default_factory=dict)
    curves: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)
    evaluation: Evaluation = field(default_factory=Evaluation)
    index: list[dict[str, float]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    spans: dict[str, list[str]] = field(default_factory=dict)
    links: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What it is called."""
        return f"version {self.version}" if self.version else f"run {self.name}"

    @property
    def moment(self) -> str:
        """When it began."""
        return self.name[:16].replace("T", " ")


def read_facts(store: Store, serving: Path, run: str = "") -> RunFacts:
    """Reads a run.

    Args:
      store: the workspace's ML Metadata.
      serving: the folder of pushed versions.
      run: its name; the newest where empty.

    Raises:
      InputError: there is no such run.
    """
    name, steps, lineage = run or store.newest_run(), store.steps(run), store.of_run(run)
    made = {(step.name, key): found[-1] for step in steps for key, found in step.outputs.items() if found}
    tables = {
        table: (made.get((statistics_step(table), "statistics")), made.get((validator_step(table), "anomalies")))
        for table in names.TABLES
    }
    by_type = {store.kind_of(artifact): artifact for artifact in made.values()}
    facts = facts_of(name, lineage, serving / names.MODEL_NAME, tables, by_type)
    facts.steps, facts.links = steps, list(_links(store, steps))
    return facts


def statistics_step(table: str) -> str:
    """The step that counts a table."""
    return f"{table.capitalize()}StatisticsGen"


def validator_step(table: str) -> str:
    """The step that compares a table with its schema and with the day before."""
    return f"{table.capitalize()}Validator"


def facts_of(
    name: str,
    lineage: Lineage,
    versions: Path,
    tables: Mapping[str, tuple[Artifact | None, Artifact | None]],
    by_type: Mapping[str, Artifact],
) -> RunFacts:
    """What artifacts tell of a run; its steps and links are left empty.

    Args:
      name: of the run.
      lineage: of the model.
      versions: the folder of the pushed ones.
      tables: table -> (its statistics, its anomalies), as far as they are there.
      by_type: the run's other artifacts.
    """
    facts = RunFacts(name, lineage.version, judgement_of(lineage, versions))
    for table, (statistics, anomalies) in tables.items():
        if statistics is not None:
            message = statistics_pb2.DatasetFeatureStatisticsList
            by_day = _by_day(statistics, STATISTICS_FILE, message)
            facts.spans[table] = list(by_day)
            facts.columns[table] = _columns(by_day)
            if table == names.BEHAVIORS:
                facts.days = {day: _events(found) for day, found in by_day.items()}
        if anomalies is not None:
            found = _by_day(anomalies, ANOMALIES_FILE, anomalies_pb2.Anomalies)
            facts.drift |= _drift(table, found)
    if DataBlessing.TYPE_NAME in by_type:
        facts.verdict = read_verdict(by_type[DataBlessing.TYPE_NAME])
    if "ModelRun" in by_type:
        folder = Path(by_type["ModelRun"].uri)
        facts.curves = _curves(folder)
        if (folder / CURVE_FILE).is_file():
            facts.index = json.loads((folder / CURVE_FILE).read_text())
    if "ModelEvaluation" in by_type:
        facts.evaluation = read_evaluation(by_type["ModelEvaluation"].uri)
    if ModelCards.TYPE_NAME in by_type:
        facts.settings = read_card(by_type[ModelCards.TYPE_NAME].uri)["configuration"]
    return facts


def read_card(folder: str) -> dict[str, Any]:
    """The model card of a folder."""
    return json.loads(Path(folder, JSON_FILE).read_text(encoding="utf-8"))


def _by_day(artifact: Artifact, file: str, message: Any) -> dict[str, Any]:
    """Day -> message, in order."""
    days = sorted(artifact_utils.decode_split_names(artifact.properties["split_names"].string_value))
    return {day: message.FromString(Path(artifact.uri, f"Split-{day}", file).read_bytes()) for day in days}


def _features(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> Iterator[tuple[str, Any]]:
    for dataset in statistics.datasets:
        for feature in dataset.features:
            yield feature.path.step[0] if feature.path.step else feature.name, feature


def _columns(by_day: Mapping[str, Any]) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for statistics in by_day.values():
        for name, feature in _features(statistics):
            column = columns.setdefault(name, Column())
            is_text = feature.HasField("string_stats")
            found = feature.string_stats if is_text else feature.num_stats
            there = found.common_stats.num_non_missing
            column.missing += found.common_stats.num_missing
            if is_text:
                column.most_values = max(column.most_values or 0, found.unique)
                for bucket in [] if name in _PRIVATE else found.rank_histogram.buckets:
                    column.top[bucket.label] += bucket.sample_count
            elif there:
                before = column.rows - column.missing + found.common_stats.num_missing
                column.lowest = found.min if column.lowest is None else min(column.lowest, found.min)
                column.highest = found.max if column.highest is None else max(column.highest, found.max)
                column.mean = ((column.mean or 0.0) * before + found.mean * there) / (before + there)
            column.rows += there + found.common_stats.num_missing
    return columns


def _events(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> dict[str, float]:
    for name, feature in _features(statistics):
        if name == names.EVENT:
            return {bucket.label: bucket.sample_count for bucket in feature.string_stats.rank_histogram.buckets}
    return {}


def _drift(table: str, by_day: Mapping[str, anomalies_pb2.Anomalies]) -> dict[str, Drift]:
    drift: dict[str, Drift] = {}
    for day, anomalies in by_day.items():
        for info in anomalies.drift_skew_info:
            for measured in info.drift_measurements:
                found = drift.setdefault(f"{table}.{info.path.step[0]}", Drift())
                found.days[day], found.threshold = measured.value, measured.threshold
    return drift


def _curves(folder: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Training -> scalar -> (epoch, value), of TensorBoard's files."""
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for file in sorted(folder.glob("*/board/events*")):
        scalars = curves.setdefault(file.parent.parent.name, {})
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                scalars.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return curves


def _links(store: Store, steps: list[Step]) -> Iterator[tuple[str, str, str]]:
    made_by = {artifact.id: step.name for step in steps for made in step.outputs.values() for artifact in made}
    for step in steps:
        taken = {artifact.id: artifact for found in step.inputs.values() for artifact in found}
        for artifact in taken.values():
            yield made_by.get(artifact.id, "an earlier run"), step.name, store.kind_of(artifact).split(".")[-1]
