"""The model that the Evaluator compares with: the last one that was really pushed.

TFX's LatestBlessedModelStrategy goes by TFMA's blessing alone, so its model may never have passed the serving check.
"""

import ml_metadata as mlmd
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types.artifact import Artifact

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
                    return {MODEL: [models[model_id]], PUSHED_MODEL: [artifact], CANDIDATE: []}
        return {MODEL: [], PUSHED_MODEL: [], CANDIDATE: []}


def _inputs_of_producer(store: mlmd.MetadataStore, artifact_id: int) -> set[int]:
    events = store.get_events_by_artifact_ids([artifact_id])
    producers = {e.execution_id for e in events if e.type == mlmd.proto.Event.OUTPUT}
    return {e.artifact_id for e in store.get_events_by_execution_ids(producers) if e.type == mlmd.proto.Event.INPUT}
