"""RunReport: the report as a step, where no ML Metadata can be asked once a run is over. Steps, times and lineage are
the orchestrator's own to show there."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import (
    ExampleAnomalies,
    ExampleStatistics,
    InfraBlessing,
    Model,
    ModelBlessing,
    ModelEvaluation,
    ModelRun,
    PushedModel,
)

from components.artifacts import DataBlessing, ModelCards, RunReports
from pipeline.lineage import Lineage
from pipeline.report.facts import facts_of, read_card
from pipeline.report.page import render
from schema import names

FILE = "report.html"


@component
def RunReport(
    behavior_statistics: InputArtifact[ExampleStatistics],
    behavior_anomalies: InputArtifact[ExampleAnomalies],
    catalog_statistics: InputArtifact[ExampleStatistics],
    catalog_anomalies: InputArtifact[ExampleAnomalies],
    data_blessing: InputArtifact[DataBlessing],
    model: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    evaluation: InputArtifact[ModelEvaluation],
    model_blessing: InputArtifact[ModelBlessing],
    infra_blessing: InputArtifact[InfraBlessing],
    pushed_model: InputArtifact[PushedModel],
    card: InputArtifact[ModelCards],
    report: OutputArtifact[RunReports],
    models: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Writes the report. `models` is the folder of pushed versions."""
    artifacts = (data_blessing, model, model_run, evaluation, model_blessing, infra_blessing, pushed_model, card)
    by_type = {artifact.type_name: artifact.mlmd_artifact for artifact in artifacts}
    version = pushed_model.get_string_custom_property("pushed_version")
    lineage = Lineage(int(version) if version else None, {kind: [one] for kind, one in by_type.items()})
    tables = {
        names.BEHAVIORS: (behavior_statistics.mlmd_artifact, behavior_anomalies.mlmd_artifact),
        names.CATALOG: (catalog_statistics.mlmd_artifact, catalog_anomalies.mlmd_artifact),
    }
    facts = facts_of(read_card(card.uri)["written"], lineage, Path(models), tables, by_type)
    with fileio.open(f"{report.uri}/{FILE}", "w") as file:
        file.write(render([facts]))
