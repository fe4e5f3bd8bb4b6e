"""Artifacts lie where workers on other machines see them while a step that uses Beam runs, and nowhere else after."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as spec_pb2
from tfx.types.standard_artifacts import Examples

from components.slice_gen import SliceGen
from pipeline.config import load_config
from pipeline.kubeflow.compiler import pipeline_spec
from pipeline.kubeflow.step import MOUNTS, run_step
from pipeline.local_runner import run_locally
from pipeline.staging import is_seen, staged
from tests.comparing import assert_same_artifacts
from tests.conftest import SETTINGS
from tests.pipeline.test_beam_runners import free_port, serving


def artifact(folder: Path) -> Examples:
    made = Examples()
    made.uri = str(folder)
    return made


@pytest.fixture
def both(tmp_path):
    (tmp_path / "in" / "Split-eval").mkdir(parents=True)
    (tmp_path / "in" / "Split-eval" / "x").write_text("rows")
    return {"read": [artifact(tmp_path / "in")]}, {"made": [artifact(tmp_path / "out")]}


def test_what_a_step_reads_and_writes_is_copied_there_and_back(both, tmp_path):
    inputs, outputs = both
    shared = tmp_path / "shared"
    with staged(inputs, outputs, str(shared)):
        places = [Path(inputs["read"][0].uri), Path(outputs["made"][0].uri)]
        assert all(shared in place.parents for place in places)
        assert (places[0] / "Split-eval" / "x").read_text() == "rows"
        (places[1] / "Split-eval").mkdir()
        (places[1] / "Split-eval" / "y").write_text("more")
        outputs["made"] = [artifact(places[1])]  # as TFX's function components do
    assert (inputs["read"][0].uri, outputs["made"][0].uri) == (f"{tmp_path}/in", f"{tmp_path}/out")
    assert (tmp_path / "out" / "Split-eval" / "y").read_text() == "more"
    assert not list(shared.iterdir())


def test_a_step_that_fails_leaves_nothing(both, tmp_path):
    inputs, outputs = both
    with pytest.raises(RuntimeError), staged(inputs, outputs, str(tmp_path / "shared")):
        (Path(outputs["made"][0].uri) / "half").write_text("")
        raise RuntimeError
    assert (inputs["read"][0].uri, outputs["made"][0].uri) == (f"{tmp_path}/in", f"{tmp_path}/out")
    assert not (tmp_path / "out").exists() and not list((tmp_path / "shared").iterdir())


def test_without_a_shared_folder_and_in_a_bucket_that_workers_see_artifacts_stay(both):
    inputs, outputs = both
    before = inputs["read"][0].uri
    with staged(inputs, outputs, ""):
        assert inputs["read"][0].uri == before
    inputs["read"][0].uri, outputs["made"][0].uri = "gs://a/in", "gs://a/out"
    with staged(inputs, outputs, "gs://b/beam"):
        assert (inputs["read"][0].uri, outputs["made"][0].uri) == ("gs://a/in", "gs://a/out")
    assert is_seen("gs://a/x", "gs://b/y")
    assert not any(is_seen(*pair) for pair in (("gs://a/x", ""), ("gs://a/x", "/mnt"), ("minio://a/x", "gs://b/y")))


def test_steps_of_a_compiled_pipeline_that_use_beam_are_told_of_the_shared_folder():
    tasks = pipeline_spec(load_config(None, ("beam.shared=/mnt/beam",)), False)["root"]["dag"]["tasks"]
    told = {name for name, task in tasks.items() if "at_shared" in task.get("inputs", {}).get("parameters", {})}
    assert {"BehaviorsExampleGen", "InteractionGen", "Transform", "Evaluator", "BatchRecommender"} <= told
    assert not told & {"Trainer", "Pusher", "ServingValidator", "DataGate", "RunReport"}


def test_a_step_of_a_cluster_reads_and_writes_through_the_shared_folder(shop, tmp_path, monkeypatch):
    """The launcher's folders are this process's alone; what the step makes is there for the launcher all the same."""
    mounts, shared, seen = tmp_path / "mounts", tmp_path / "shared", []
    monkeypatch.setenv(MOUNTS, str(mounts))
    there = mounts / "minio" / "b" / "interactions"
    shutil.copytree(shop.artifact("InteractionGen", "examples"), there)
    uris = {"inputs": "minio://b/interactions", "outputs": "minio://b/sliced"}
    told = {
        "inputs": {
            "parameterValues": {"code_version": "c", "at_shared": f"{shared}/"},
            "artifacts": {"examples": {"artifacts": [{"uri": uris["inputs"], "metadata": {"split_names": SPLITS}}]}},
        },
        "outputs": {
            "artifacts": {"sliced_examples": {"artifacts": [{"uri": uris["outputs"]}]}},
            "outputFile": str(tmp_path / "out.json"),
        },
    }
    types = {"inputs": {"examples": TYPE}, "outputs": {"sliced_examples": TYPE}}
    do = SliceGen.EXECUTOR_SPEC.executor_class.Do

    def look(executor, inputs, outputs, properties):
        seen.extend((inputs["examples"][0].uri, outputs["sliced_examples"][0].uri))
        return do(executor, inputs, outputs, properties)

    monkeypatch.setattr(SliceGen.EXECUTOR_SPEC.executor_class, "Do", look)
    answer = run_step(
        "components.slice_gen.SliceGen_Executor",
        json_format.ParseDict(told, spec_pb2.ExecutorInput()),
        spec_pb2.ComponentInputsSpec(),
        types,
        ["--runner=DirectRunner"],
    )
    assert all(uri.startswith(f"{shared}/") for uri in seen)
    assert answer.artifacts["sliced_examples"].artifacts[0].uri == uris["outputs"]
    assert list((mounts / "minio" / "b" / "sliced" / "Split-eval").glob("*.gz")) and not list(shared.iterdir())


TYPE = "tfx.types.standard_artifacts.Examples"
SPLITS = json.dumps(["train", "windows", "eval", "users", "catalog", "timeline"])


# Root without the right to pass by what a folder allows; workers are started by the name `python`.
AS_ALLOWED = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
AS_ALLOWED += ["env", f"PATH={Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="takes root and setpriv")
def test_workers_who_see_the_shared_folder_alone_make_the_same(shop, tmp_path):
    """The workspace is in a folder that the workers may not enter."""
    shared, closed, ports = tmp_path / "shared", tmp_path / "closed", (free_port(), free_port())
    inputs = {table: str(shared / table) for table in shop.folders}
    for table, folder in shop.folders.items():
        shutil.copytree(folder, inputs[table])
    closed.mkdir()
    closed.chmod(0)
    job_server = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", "-p", str(ports[0])]
    workers = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", "--service_port", str(ports[1])]
    with (
        serving(job_server, ports[0], tmp_path / "server.log") as endpoint,
        serving([*AS_ALLOWED, *workers], ports[1], tmp_path / "workers.log") as pool,
    ):
        beam = ("runner=flink", f"job_endpoint={endpoint}", "environment=external", f"shared={shared}/beam")
        settings = [f"beam.{assignment}" for assignment in (*beam, f"environment_config={pool}")]
        run_locally(load_config(None, (*SETTINGS, *settings)), inputs, str(closed / "w"), until="Transform")
    assert [path.name for path in (shared / "beam").iterdir()] == ["cache"]
    assert_same_artifacts(closed / "w", shop.workspace)
