"""The DAG as Kubeflow Pipelines' 2.1 YAML, or as the JSON job of Vertex AI.

TFX's KubeflowV2DagRunner writes the tasks, their artifacts and parameters; this adds what it has no words for: runtime
parameters, resources, retries, which steps may be taken from the cache, and for a cluster of one's own the volume and
the secret.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.types import Channel
from tfx.utils import name_utils

from components.input_folders import Table
from components.last_pushed_model import LastPushedModel
from pipeline.config import Config
from pipeline.kubeflow.placeholders import FINGERPRINT, PREFIX, stand_in
from pipeline.kubeflow.settings import PARAMETERS, SECRET, SHARED, VOLUME, Kubeflow, Resources
from pipeline.pipeline import Window, build_pipeline
from pipeline.places import REPORT, Places, code_version
from schema import names
from schema.errors import InputError
from schema.files import replace_text
from schema.privacy import KEY_VARIABLE

SUFFIXES = (".yaml", ".yml", ".json")
_COMMAND = ["python", "-m", "pipeline.kubeflow.step"]
_STRING = {"parameterType": "STRING"}


def compile_pipeline(config: Config, with_users: bool, out: str) -> None:
    """Writes the compiled pipeline.

    Args:
      config: checked configuration.
      with_users: whether there is a table of users.
      out: a .yaml file for Kubeflow Pipelines, or a .json file for Vertex AI.

    Raises:
      InputError: `out` is neither, or the configuration cannot be compiled.
    """
    if not out.endswith(SUFFIXES):
        raise InputError(f"--out {out}: has to end with .yaml (Kubeflow Pipelines) or .json (Vertex AI).")
    is_job = out.endswith(".json")
    spec = pipeline_spec(config, with_users)
    if is_job:
        text = json.dumps(_job(spec, config.kubeflow), indent=1, sort_keys=True) + "\n"
    else:
        documents = [spec, *_platform(spec, config.kubeflow)]
        text = yaml.safe_dump_all(documents, sort_keys=True, width=120)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    replace_text(Path(out), text)


def pipeline_spec(config: Config, with_users: bool) -> dict[str, Any]:
    """The PipelineSpec as a dictionary."""
    tables = names.TABLES if with_users else (names.BEHAVIORS, names.CATALOG)
    windows = {name: Window(Table(stand_in(name), "", {}), []) for name in tables}
    if "://" in config.encoder.path:
        raise InputError("encoder.path: Kubeflow's steps download nothing; give a folder on the volume.")
    places = Places(
        pipeline_root=config.kubeflow.pipeline_root,
        cache=stand_in("cache"),
        embeddings=f"{stand_in('cache')}/text_embeddings",
        schemas=stand_in("schemas"),
        encoder=stand_in("encoder"),
        encoder_fingerprint=stand_in(FINGERPRINT),
        push=stand_in("models"),
        code_version=code_version(),
        report_version=code_version(REPORT),
    )

    def last_pushed(node_id: str, candidate: Channel | None) -> BaseNode:
        others = {} if candidate is None else {"candidate": candidate}
        step = LastPushedModel(folder=places.push, code_version=places.code_version, **others)
        return step.with_id(node_id)

    pipeline = build_pipeline(config, windows, places, None, last_pushed=last_pushed, with_report=True)
    runner = KubeflowV2DagRunner(
        KubeflowV2DagRunnerConfig(
            default_image=config.kubeflow.image, default_commands=_COMMAND, use_pipeline_spec_2_1=True
        )
    )
    spec = runner.run(pipeline, write_out=False)["pipelineSpec"]
    given = [name for name in PARAMETERS if with_users or name != names.USERS]
    _add_parameters(spec, given, config)
    if config.beam.shared:
        told = {"defaultValue": config.beam.shared, "description": "folder that Beam's workers see"}
        spec["root"]["inputDefinitions"]["parameters"][SHARED] = {**_STRING, **told}
    for node in pipeline.components:
        _add_types(spec, node)
        _add_settings(spec, node.id, config.kubeflow)
        if config.beam.shared and isinstance(node.executor_spec, BeamExecutorSpec):
            _add_parameter(spec, node.id, SHARED)
    return spec


def _add_parameters(spec: dict[str, Any], given: list[str], config: Config) -> None:
    """Runtime parameters of the pipeline; each step gets those that its settings name."""
    kubeflow = config.kubeflow
    defaults = {**kubeflow.defaults(), "encoder": config.encoder.path}
    root = {name: {**_STRING, "defaultValue": defaults[name], "description": PARAMETERS[name]} for name in given}
    for name, default, what in (
        (VOLUME, kubeflow.volume, "PersistentVolumeClaim that is mounted in each step"),
        (SECRET, kubeflow.secret, f"Secret with {KEY_VARIABLE}"),
    ):
        if default:
            root[name] = {**_STRING, "defaultValue": default, "description": what}
    spec["root"]["inputDefinitions"] = {"parameters": root}
    for step, task in spec["root"]["dag"]["tasks"].items():
        told = json.dumps(task.get("inputs", {}).get("parameters", {}))
        for name in given:
            if stand_in(name) in told or (name == "encoder" and stand_in(FINGERPRINT) in told):
                _add_parameter(spec, step, name)


def _add_parameter(spec: dict[str, Any], step: str, name: str) -> None:
    """Gives a step a runtime parameter of the pipeline."""
    task = spec["root"]["dag"]["tasks"][step]
    task["inputs"]["parameters"][PREFIX + name] = {"componentInputParameter": name}
    component = spec["components"][task["componentRef"]["name"]]
    component["inputDefinitions"]["parameters"][PREFIX + name] = dict(_STRING)


def _add_types(spec: dict[str, Any], node: BaseNode) -> None:
    """Which class each artifact of a step is: the launcher may not tell."""
    channels = {"inputs": node.inputs, "outputs": node.outputs}
    types = {
        kind: {name: name_utils.get_full_name(channel.type) for name, channel in sorted(found.items())}
        for kind, found in channels.items()
    }
    _container(spec, node.id)["args"] += ["--types", json.dumps(types, sort_keys=True)]


def _add_settings(spec: dict[str, Any], step: str, kubeflow: Kubeflow) -> None:
    task, container = spec["root"]["dag"]["tasks"][step], _container(spec, step)
    asked = kubeflow.steps.get(step, kubeflow.default)
    container["resources"] = _resources(asked, kubeflow.accelerator)
    if asked.gpus:
        container["image"] = kubeflow.gpu_image
    else:
        # Where a node has GPUs, each Beam step would take their memory.
        container["env"] = [{"name": "CUDA_VISIBLE_DEVICES", "value": "-1"}]
    task["cachingOptions"] = {"enableCache": step not in kubeflow.uncached}
    if kubeflow.retries:
        task["retryPolicy"] = {
            "maxRetryCount": kubeflow.retries,
            "backoffDuration": "30s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "3600s",
        }


def _resources(asked: Resources, accelerator: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cpuRequest": asked.cpu,
        "cpuLimit": asked.cpu,
        "memoryRequest": asked.memory_gb,
        "memoryLimit": asked.memory_gb,
    }
    return {**found, "accelerator": {"type": accelerator, "count": str(asked.gpus)}} if asked.gpus else found


def _container(spec: Mapping[str, Any], step: str) -> dict[str, Any]:
    label = spec["components"][step]["executorLabel"]
    return spec["deploymentSpec"]["executors"][label]["container"]


def _platform(spec: Mapping[str, Any], kubeflow: Kubeflow) -> list[dict[str, Any]]:
    """The YAML's second document: what only Kubernetes knows; nothing where neither is wanted."""
    each: dict[str, Any] = {}
    if kubeflow.volume:
        each["pvcMount"] = [{"componentInputParameter": VOLUME, "mountPath": kubeflow.mount}]
    if kubeflow.secret:
        pair = {"secretKey": KEY_VARIABLE, "envVar": KEY_VARIABLE}
        each["secretAsEnv"] = [{"secretNameParameter": {"componentInputParameter": SECRET}, "keyToEnv": [pair]}]
    executors = dict.fromkeys(spec["deploymentSpec"]["executors"], each)
    return [{"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}] if each else []


def _job(spec: dict[str, Any], kubeflow: Kubeflow) -> dict[str, Any]:
    """A PipelineJob, which Vertex AI runs; there, a bucket is a folder below /gcs/."""
    root = {"gcsOutputDirectory": kubeflow.pipeline_root} if kubeflow.pipeline_root else {}
    values = {name: told["defaultValue"] for name, told in spec["root"]["inputDefinitions"]["parameters"].items()}
    return {
        "displayName": names.MODEL_NAME,
        "pipelineSpec": spec,
        "runtimeConfig": {**root, "parameterValues": values},
    }
