"""A compiled pipeline is run as a cluster would run it: small ones made by hand, and the whole of ours."""

import json
import shutil

import numpy as np
import pytest
import yaml

from pipeline.config import load_config
from pipeline.kubeflow.compiler import compile_pipeline
from pipeline.kubeflow.replay import RAN, SKIPPED, holds, replay
from pipeline.kubeflow.spec import read_spec
from schema import names
from schema.errors import HomefeedError, InputError
from schema.saved_model import ServableModel
from tests.conftest import SETTINGS

# Writes what it was given into its output, reads its input, and says that it is blessed as its parameter tells.
STEP = """
import json, os, sys
told = json.loads(sys.argv[1])
mounts = os.environ["HOMEFEED_MOUNTS"]
here = lambda a: a["uri"].replace("minio:/", mounts + "/minio", 1)
read = [open(here(l["artifacts"][0]) + "/x").read() for l in told["inputs"]["artifacts"].values()]
(out,) = [l["artifacts"][0] for l in told["outputs"]["artifacts"].values()]
os.makedirs(here(out))
open(here(out) + "/x", "w").write("+".join([told["inputs"]["parameterValues"]["word"], *read]))
blessed = told["inputs"]["parameterValues"].get("blessed", "1")
if blessed == "fail":
    sys.exit("it broke")
json.dump({"artifacts": {"made": {"artifacts": [{"metadata": {"blessed": float(blessed)}}]}}},
          open(told["outputs"]["outputFile"], "w"))
"""


def spec_of(tmp_path):
    made = {"artifacts": {"made": {"artifactType": {"schemaTitle": "system.Artifact"}}}}
    container = {"container": {"command": ["python", "-c", STEP], "args": ["{{$}}"]}}
    given = {"runtimeValue": {"constant": "first"}}
    before = {"taskOutputArtifact": {"producerTask": "A", "outputArtifactKey": "made"}}
    condition = "(inputs.artifacts['a'].artifacts[0].metadata['blessed'] == 1.0)"
    second = {
        "componentRef": {"name": "c"},
        "dependentTasks": ["A"],
        "inputs": {
            "parameters": {"word": {"runtimeValue": {"constant": "second"}}},
            "artifacts": {"a": before},
        },
        "triggerPolicy": {"condition": condition},
    }
    third = {**second, "dependentTasks": ["A", "B"], "triggerPolicy": {}}
    spec = {
        "pipelineInfo": {"name": "p"},
        "root": {
            "inputDefinitions": {"parameters": {"blessed": {"parameterType": "STRING", "defaultValue": "1"}}},
            "dag": {
                "tasks": {
                    "A": {
                        "componentRef": {"name": "c"},
                        "inputs": {"parameters": {"word": given, "blessed": {"componentInputParameter": "blessed"}}},
                    },
                    "B": second,
                    "C": third,
                }
            },
        },
        "components": {"c": {"executorLabel": "e", "outputDefinitions": made}},
        "deploymentSpec": {"executors": {"e": container}},
    }
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(spec))
    return str(file)


def run(tmp_path, **parameters):
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    return replay(spec_of(tmp_path), parameters, str(store), "minio://bucket/v2"), store


def test_steps_get_what_those_before_them_have_made(tmp_path):
    found, store = run(tmp_path)
    assert found.steps == {"A": RAN, "B": RAN, "C": RAN}
    made = found.artifacts["B"]["made"]
    assert made["uri"].startswith("minio://bucket/v2/p/") and made["metadata"] == {"blessed": 1.0}
    assert (store / "buckets" / made["uri"].replace("://", "/") / "x").read_text() == "second+first"
    assert not list(store.glob("steps/*/mounts"))


def test_a_condition_that_does_not_hold_skips_what_follows(tmp_path):
    found, _ = run(tmp_path, blessed="0")
    assert found.steps == {"A": RAN, "B": SKIPPED, "C": SKIPPED}


def test_a_step_that_fails_is_named_with_its_log(tmp_path):
    with pytest.raises(HomefeedError, match=r"A failed \(it broke\); see .*/steps/A/log.txt"):
        run(tmp_path, blessed="fail")


def test_wrong_parameters_and_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="colour: is no parameter"):
        run(tmp_path, colour="red")
    for text in ("a: [", "- 1", "x: 1"):
        file = tmp_path / "x.yaml"
        file.write_text(text)
        with pytest.raises(InputError, match="compile"):
            read_spec(str(file))


def test_conditions_are_equalities_of_properties():
    artifacts = {"_A.a": {"artifacts": [{"metadata": {"blessed": 1.0}}]}}
    one = "(inputs.artifacts['_A.a'].artifacts[0].metadata['blessed'] == 1.0)"
    assert holds(one, artifacts) and not holds(f"{one} && {one.replace('1.0)', '0.0)')}", artifacts)
    with pytest.raises(InputError, match="of no form"):
        holds("inputs.parameter_values['x'] == 'y'", artifacts)


@pytest.mark.slow
def test_the_whole_pipeline_pushes_the_model_that_the_local_runner_pushes(shop, shop_data, tmp_path):
    """Artifacts lie in a bucket that TFX cannot read; the local runner's model is the one to compare with."""
    compiled, store, models = tmp_path / "pipeline.yaml", tmp_path / "store", tmp_path / "models"
    compile_pipeline(load_config(None, SETTINGS), False, str(compiled))
    store.mkdir()
    shutil.copytree(shop.version, models / "7")
    given = {**shop.folders, "models": str(models), "cache": str(tmp_path / "cache")}
    found = replay(str(compiled), given, str(store), "minio://mlpipeline/v2", print)
    assert set(found.steps.values()) == {RAN}
    assert found.artifacts["BaselineResolver"]["model"]["metadata"]["pushed_version"] == "7"
    blessing = found.artifacts["Evaluator"]["blessing"]["metadata"]
    assert blessing["blessed"] == 1.0
    (pushed,) = [path for path in models.iterdir() if path.name not in ("7", ".staging")]
    assert found.artifacts["Pusher"]["pushed_model"]["metadata"]["pushed_version"] == pushed.name
    ours, theirs = ServableModel(str(pushed)), ServableModel(str(shop.version))
    users = [line for line in (shop.version / "assets" / "user_ids.txt").read_bytes().split(b"\n") if line]
    answers = [
        model(names.RECOMMEND, {names.USER_ID: np.array(users, object), names.K: np.array([20])})
        for model in (ours, theirs)
    ]
    assert (answers[0][names.ITEM_IDS] == answers[1][names.ITEM_IDS]).mean() > 0.99
    assert answers[0][names.SCORES] == pytest.approx(answers[1][names.SCORES], abs=1e-3)
    assert "epoch 1 of 3" in (store / "steps" / "Trainer" / "log.txt").read_text(encoding="utf-8")
    (report,) = store.rglob("report.html")
    html = report.read_text(encoding="utf-8")
    assert f"version {pushed.name}" in html and "did not run" not in html and '<section id="training">' in html
    told = json.loads(compiled.with_name("cache").joinpath("fingerprints-behaviors.json").read_text())
    assert len(told) == len(list(shop.behaviors.iterdir()))
