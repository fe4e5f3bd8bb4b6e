"""The compiled file: what Kubeflow's SDK and schema say of it, and what was asked for in it."""

import json
from pathlib import Path

import kfp
import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.config import load_config
from pipeline.kubeflow import compiler
from pipeline.kubeflow.compiler import compile_pipeline
from schema.errors import InputError

GOLDEN = Path(__file__).with_name("golden.yaml")
OWN = ("kubeflow.steps.Trainer={cpu: 8, memory_gb: 24, gpus: 1}", "kubeflow.secret=keys", "kubeflow.retries=1")


def compiled(folder: Path, *assignments: str, name: str = "pipeline.yaml", with_users: bool = False) -> Path:
    out = folder / name
    compile_pipeline(load_config(None, assignments), with_users, str(out))
    return out


@pytest.fixture(autouse=True)
def same_code(monkeypatch):
    """Whatever the code is: that it changes the file is no news."""
    monkeypatch.setattr(compiler, "code_version", lambda *_: "code")


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "code_version", lambda *_: "code")
        return list(yaml.safe_load_all(compiled(tmp_path_factory.mktemp("compiled"), *OWN).read_text()))


def test_the_default_pipeline_is_as_it_was_agreed_on(tmp_path):
    """Where the change is meant, write the file anew: python -m tests.pipeline.kubeflow.test_compiler"""
    assert compiled(tmp_path).read_text() == GOLDEN.read_text()


def test_it_is_valid_and_loads_in_the_sdk(tmp_path, documents):
    spec = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    assert spec.schema_version == "2.1.0" and spec.pipeline_info.name == "homefeed"
    out = compiled(tmp_path, with_users=True)
    component = kfp.components.load_component_from_text(out.read_text())
    wanted = {"behaviors", "catalog", "users", "models", "cache", "encoder", "schemas", "volume"}
    assert set(component.component_spec.inputs) == wanted


def test_no_path_of_this_machine_and_no_secret_is_in_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOMEFEED_USER_ID_KEY", "a key that nobody may see")
    text = compiled(tmp_path, "privacy.hash_user_ids=true", "kubeflow.secret=keys").read_text()
    assert str(Path.cwd()) not in text and str(Path.home()) + "/" not in text and "nobody may see" not in text


def test_each_step_asks_for_what_it_was_given(documents):
    spec = documents[0]
    executors = spec["deploymentSpec"]["executors"]
    trainer = executors["Trainer_executor"]["container"]
    assert trainer["resources"] == {
        "cpuRequest": 8.0,
        "cpuLimit": 8.0,
        "memoryRequest": 24.0,
        "memoryLimit": 24.0,
        "accelerator": {"type": "nvidia.com/gpu", "count": "1"},
    }
    assert trainer["image"] == "homefeed:latest-gpu" and "env" not in trainer
    others = [executor["container"] for name, executor in executors.items() if name != "Trainer_executor"]
    assert all(one["env"] == [{"name": "CUDA_VISIBLE_DEVICES", "value": "-1"}] for one in others)
    tasks = spec["root"]["dag"]["tasks"]
    assert {name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")} == {
        "BehaviorsExampleGen",
        "CatalogExampleGen",
        "BaselineResolver",
    }
    assert {task["retryPolicy"]["maxRetryCount"] for task in tasks.values()} == {1}


def test_steps_after_the_gate_run_only_where_it_has_blessed(documents):
    tasks = documents[0]["root"]["dag"]["tasks"]
    told = {name for name, task in tasks.items() if "triggerPolicy" in task}
    assert told == {
        *("InteractionsSchemaGen", "TextEmbeddingGen", "InteractionGen", "Transform", "Trainer", "BaselineResolver"),
        *("SliceGen", "Evaluator", "ServingValidator", "Pusher", "ModelCard", "BatchRecommender"),
    }


def test_the_volume_and_the_secret_are_parameters_of_each_step(documents):
    platform = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(platform) == set(documents[0]["deploymentSpec"]["executors"])
    for told in platform.values():
        assert told["pvcMount"] == [{"componentInputParameter": "volume", "mountPath": "/homefeed"}]
        (secret,) = told["secretAsEnv"]
        assert secret["secretNameParameter"] == {"componentInputParameter": "secret"}
    assert documents[0]["root"]["inputDefinitions"]["parameters"]["secret"]["defaultValue"] == "keys"


def test_a_json_file_is_a_job_of_vertex_ai(tmp_path):
    out = compiled(tmp_path, "kubeflow.pipeline_root=gs://b/root", name="job.json")
    job = json.loads(out.read_text())
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://b/root"
    assert job["runtimeConfig"]["parameterValues"]["models"] == "/homefeed/serving/homefeed"
    json_format.ParseDict(job, pipeline_spec_pb2.PipelineJob())


@pytest.mark.parametrize(
    ("assignments", "name", "said"),
    [
        ((), "pipeline.txt", "has to end with .yaml"),
        (("encoder.path=https://e.org/x.zip",), "p.yaml", "give a folder on the volume"),
    ],
)
def test_what_cannot_be_compiled_is_told(tmp_path, assignments, name, said):
    with pytest.raises(InputError, match=said):
        compiled(tmp_path, *assignments, name=name)
    assert not list(tmp_path.iterdir())


if __name__ == "__main__":
    compiler.code_version = lambda *_: "code"
    compile_pipeline(load_config(None), False, str(GOLDEN))
