from types import SimpleNamespace

import ml_metadata as mlmd
import pytest
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.types.standard_artifacts import Model, PushedModel

from components import baseline
from components.baseline import CANDIDATE, MODEL, PUSHED_MODEL, LastPushedModelStrategy, can_be_compared


@pytest.fixture(autouse=True)
def comparable(monkeypatch):
    """Models of a mere store have no files."""
    answers = {}
    monkeypatch.setattr(baseline, "can_be_compared", lambda uri: answers.get(uri, True))
    return answers


class Lineage:
    """An in-memory store with models and pushes."""

    def __init__(self):
        config = pb.ConnectionConfig()
        config.fake_database.SetInParent()
        self.store = mlmd.MetadataStore(config)
        self.types = {n: self.store.put_artifact_type(pb.ArtifactType(name=n)) for n in ("Model", "PushedModel")}
        self.pusher = self.store.put_execution_type(pb.ExecutionType(name="Pusher"))
        self.artifacts = {MODEL: [], PUSHED_MODEL: []}

    def add(self, key, cls):
        (id_,) = self.store.put_artifacts([pb.Artifact(type_id=self.types[cls.TYPE_NAME])])
        artifact = cls()
        artifact.id = id_
        self.artifacts[key].append(artifact)
        return artifact

    def push(self, model, pushed=1):
        artifact = self.add(PUSHED_MODEL, PushedModel)
        artifact.set_int_custom_property("pushed", pushed)
        (execution,) = self.store.put_executions([pb.Execution(type_id=self.pusher)])
        self.store.put_events(
            [
                pb.Event(artifact_id=model.id, execution_id=execution, type=pb.Event.INPUT),
                pb.Event(artifact_id=artifact.id, execution_id=execution, type=pb.Event.OUTPUT),
            ]
        )
        return artifact

    def resolve(self, candidate):
        channels = {**self.artifacts, CANDIDATE: [candidate]}
        return [a.id for a in LastPushedModelStrategy().resolve_artifacts(self.store, channels)[MODEL]]


def test_the_first_run_has_no_baseline():
    lineage = Lineage()
    assert lineage.resolve(lineage.add(MODEL, Model)) == []


def test_the_newest_pushed_model_is_the_baseline_whatever_was_trained_after_it():
    lineage = Lineage()
    first, second, refused = (lineage.add(MODEL, Model) for _ in range(3))
    lineage.push(first)
    lineage.push(second)
    lineage.push(refused, pushed=0)
    assert lineage.resolve(lineage.add(MODEL, Model)) == [second.id]


def test_a_model_is_never_compared_with_itself():
    lineage = Lineage()
    first, second = lineage.add(MODEL, Model), lineage.add(MODEL, Model)
    lineage.push(first)
    lineage.push(second)
    assert lineage.resolve(second) == [first.id]
    assert lineage.resolve(SimpleNamespace(id=-1)) == [second.id]


def test_a_model_that_cannot_be_compared_with_is_no_baseline_but_may_be_started_from(comparable):
    lineage = Lineage()
    model = lineage.add(MODEL, Model)
    model.uri = "/somewhere"
    lineage.push(model)
    comparable["/somewhere"] = False
    assert lineage.resolve(lineage.add(MODEL, Model)) == []
    started = LastPushedModelStrategy().resolve_artifacts(lineage.store, dict(lineage.artifacts))
    assert [artifact.id for artifact in started[MODEL]] == [model.id]


def test_a_model_can_be_compared_with_if_its_evaluate_tells_what_metrics_need(shop, tmp_path):
    uri = str(shop.artifact("Trainer", "model"))
    assert can_be_compared(uri)
    assert not can_be_compared(str(tmp_path / "gone"))
    module = tf.Module()
    module.f = tf.function(lambda x: {"ranks": x}, input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    tf.saved_model.save(module, str(tmp_path / "old" / "Format-Serving"), signatures={"evaluate": module.f})
    assert not can_be_compared(str(tmp_path / "old"))
