"""The model that the Evaluator compares with: the last one that was really pushed.

TFX's LatestBlessedModelStrategy goes by TFMA's blessing alone, so its model may never have passed the serving check.
"""

import logging

import ml_metadata as mlmd
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from schema import names
from schema.errors import InputError
from schema.saved_model import read_signature_defs
from schema.signatures import SIGNATURES

progress = logging.getLogger("homefeed.progress")

MODEL, PUSHED_MODEL, CANDIDATE = "model", "pushed_model", "candidate"


class LastPushedModelStrategy(ResolverStrategy):
    """Resolves `model` to the Model of the newest push, the candidate itself left out.

    Inputs are the channels of all models, all pushed models and this run's candidate. Leaving the candidate out keeps
    an unchanged second run from comparing a model with itself, and so from running the Evaluator again. Which model a
    push came from is read from the lineage: it is an input of the execution whose output the pushed model is.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """Returns {"model": [the baseline]}, or empty lists where nothing was pushed before."""
        candidates = {artifact.id for artifact in input_dict.get(CANDIDATE, [])}
        models = {artifact.id: artifact for artifact in input_dict.get(MODEL, [])}
        pushed = [a for a in input_dict.get(PUSHED_MODEL, []) if a.get_int_custom_property("pushed") == 1]
        for artifact in sorted(pushed, key=lambda a: a.id, reverse=True):
            for model_id in _inputs_of_producer(store, artifact.id):
                if model_id in models and model_id not in candidates:
                    if CANDIDATE in input_dict and not can_be_compared(models[model_id].uri):
                        return {MODEL: [], PUSHED_MODEL: [], CANDIDATE: []}
                    return {MODEL: [models[model_id]], PUSHED_MODEL: [artifact], CANDIDATE: []}
        return {MODEL: [], PUSHED_MODEL: [], CANDIDATE: []}


def can_be_compared(uri: str) -> bool:
    """Whether the metrics can be computed of an earlier model: it is still there, and its `evaluate` answers with all
    that they read. One that an earlier homefeed has exported may not; then only bounds of values count, as in a first
    run."""
    needed, outputs = SIGNATURES[names.EVALUATE]
    try:
        found = read_signature_defs(path_utils.serving_model_path(uri)).get(names.EVALUATE)
    except InputError:
        found = None
    comparable = found is not None and set(found.inputs) == set(needed) and set(outputs) <= set(found.outputs)
    if not comparable:
        progress.info("the last pushed model cannot be compared with: it does not tell what the metrics need")
    return comparable


def _inputs_of_producer(store: mlmd.MetadataStore, artifact_id: int) -> set[int]:
    events = store.get_events_by_artifact_ids([artifact_id])
    producers = {e.execution_id for e in events if e.type == mlmd.proto.Event.OUTPUT}
    return {e.artifact_id for e in store.get_events_by_execution_ids(producers) if e.type == mlmd.proto.Event.INPUT}
