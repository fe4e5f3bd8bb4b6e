"""Runs a compiled pipeline on this machine, as a cluster would: each step is a process of its own, started by the
command that is written in the file, with the ExecutorInput that Kubeflow's launcher would pass.

What driver and launcher do is done here after kubeflow/pipelines' `backend/src/v2`: parameters are resolved, conditions
are evaluated on a step's inputs, artifacts are copied from their store to the step's folders and back, URIs and
properties that a step has written are merged. It has no cache, and tries nothing again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.kubeflow.spec import parameter_values, read_spec
from pipeline.kubeflow.step import MOUNTS, local_path
from schema.errors import HomefeedError, InputError

_INPUT = "{{$}}"  # in a command: the ExecutorInput as JSON
_CONDITION = re.compile(r"\(inputs\.artifacts\['([\w.]+)'\]\.artifacts\[0\]\.metadata\['(\w+)'\] == ([\d.]+)\)")
RAN, SKIPPED = "ran", "skipped"


@dataclass
class Replayed:
    """What came of a replay.

    Attributes:
      steps: name -> `ran` or `skipped`, in the order in which they were looked at.
      seconds: name -> how long it took.
      artifacts: step -> output's name -> the artifact as the metadata store has it: `uri`, `metadata`.
    """

    steps: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    artifacts: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)


def replay(
    path: str, parameters: Mapping[str, str], store: str, root: str, told: Callable[[str], None] = lambda line: None
) -> Replayed:
    """Runs every step.

    Args:
      path: the compiled file.
      parameters: runtime parameters; what is left out has its default.
      store: an existing folder: artifacts, what buckets hold, and what each step prints.
      root: where artifacts go: a path, or such as minio://bucket/folder, which lies in `store` then.
      told: gets a line for each step.

    Raises:
      InputError: the file is no pipeline, or a parameter is not one of its.
      HomefeedError: a step failed; names it and its log.
    """
    spec = read_spec(path)
    run = _Run(spec, parameter_values(spec, path, parameters), Path(store).resolve(), root)
    found = Replayed()
    for name in _in_order(spec["root"]["dag"]["tasks"]):
        start = time.monotonic()
        run.step(name, found)
        found.seconds[name] = time.monotonic() - start
        told(f"{name} {found.steps[name]} in {found.seconds[name]:.1f} s")
    return found


def _in_order(tasks: Mapping[str, Any]) -> Iterator[str]:
    done: set[str] = set()
    while len(done) < len(tasks):
        ready = [n for n in sorted(tasks) if n not in done and set(tasks[n].get("dependentTasks", [])) <= done]
        if not ready:
            raise InputError(f"the steps {', '.join(sorted(set(tasks) - done))} wait for each other; compile it again.")
        yield from ready
        done |= set(ready)


class _Run:
    def __init__(self, spec: Mapping[str, Any], values: Mapping[str, str], store: Path, root: str):
        self._spec, self._values, self._store, self._root = spec, values, store, root
        self._id = time.strftime("%Y%m%d%H%M%S")

    def step(self, name: str, found: Replayed) -> None:
        """Runs one step, unless its condition or a step before it says no."""
        task = self._spec["root"]["dag"]["tasks"][name]
        if any(found.steps[other] == SKIPPED for other in task.get("dependentTasks", [])):
            found.steps[name] = SKIPPED
            return
        component = self._spec["components"][task["componentRef"]["name"]]
        executor_input = self._executor_input(name, task, component, found)
        condition = task.get("triggerPolicy", {}).get("condition", "")
        if condition and not holds(condition, executor_input["inputs"]["artifacts"]):
            found.steps[name] = SKIPPED
            return
        folder = self._store / "steps" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mounts = folder / "mounts"
        self._copy(executor_input["inputs"]["artifacts"], mounts, is_upload=False)
        self._run(name, component, executor_input, folder, mounts)
        self._copy(executor_input["outputs"]["artifacts"], mounts, is_upload=True)
        shutil.rmtree(mounts, ignore_errors=True)
        found.artifacts[name] = self._merged(executor_input, folder)
        found.steps[name] = RAN

    def _executor_input(
        self, name: str, task: Mapping[str, Any], component: Mapping[str, Any], found: Replayed
    ) -> dict[str, Any]:
        asked = task.get("inputs", {})
        parameters, artifacts = {}, {}
        for key, source in asked.get("parameters", {}).items():
            if "componentInputParameter" in source:
                parameters[key] = self._values[source["componentInputParameter"]]
            else:
                parameters[key] = source["runtimeValue"]["constant"]
        for key, source in asked.get("artifacts", {}).items():
            made = source["taskOutputArtifact"]
            artifacts[key] = {"artifacts": [found.artifacts[made["producerTask"]][made["outputArtifactKey"]]]}
        outputs = {}
        for key, told in component.get("outputDefinitions", {}).get("artifacts", {}).items():
            uri = f"{self._root}/{self._spec['pipelineInfo']['name']}/{self._id}/{name}/{key}"
            outputs[key] = {"artifacts": [{"name": key, "type": told["artifactType"], "uri": uri, "metadata": {}}]}
        output_file = str(self._store / "steps" / name / "output_metadata.json")
        return {
            "inputs": {"parameterValues": parameters, "artifacts": artifacts},
            "outputs": {"artifacts": outputs, "outputFile": output_file},
        }

    def _run(
        self, name: str, component: Mapping[str, Any], executor_input: Mapping[str, Any], folder: Path, mounts: Path
    ) -> None:
        container = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        command = [*container.get("command", []), *container.get("args", [])]
        told = json.dumps(executor_input)
        command = [part.replace(_INPUT, told) for part in command]
        # In the image, `python` is the one that homefeed is installed in.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {**os.environ, "PATH": path, MOUNTS: str(mounts)}
        environment |= {one["name"]: one["value"] for one in container.get("env", [])}
        log = folder / "log.txt"
        with log.open("wb") as stream:
            result = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        if result.returncode:
            said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise HomefeedError(f"{name} failed ({(said or [''])[-1][:300]}); see {log}.")

    def _copy(self, lists: Mapping[str, Any], mounts: Path, is_upload: bool) -> None:
        """Between the store's buckets and a step's folders, as the launcher does; a path is where it is."""
        for told in lists.values():
            for artifact in told["artifacts"]:
                uri = artifact["uri"]
                if local_path(uri) == uri:
                    continue
                there = self._store / "buckets" / uri.replace("://", "/")
                here = mounts / uri.replace("gs://", "gcs/").replace("://", "/")
                source, target = (here, there) if is_upload else (there, here)
                if source.exists():
                    shutil.copytree(source, target, dirs_exist_ok=True)

    def _merged(self, executor_input: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
        file = folder / "output_metadata.json"
        written = json.loads(file.read_text()).get("artifacts", {}) if file.exists() else {}
        merged = {}
        for key, told in executor_input["outputs"]["artifacts"].items():
            artifact = dict(told["artifacts"][0])
            for own in written.get(key, {}).get("artifacts", [])[:1]:
                artifact["uri"] = own.get("uri") or artifact["uri"]
                artifact["metadata"] = {**artifact["metadata"], **own.get("metadata", {})}
            merged[key] = {**artifact, "name": f"{folder.name}/{key}"}
        return merged


def holds(condition: str, artifacts: Mapping[str, Any]) -> bool:
    """Whether a task's condition holds: equalities of artifacts' properties, joined by `&&`, as TFX compiles them.

    Raises:
      InputError: it is of another form.
    """
    for part in condition.split(" && "):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise InputError(f"the condition {part!r} is of no form that a replay knows.")
        name, key, value = match.groups()
        if float(artifacts[name]["artifacts"][0]["metadata"].get(key, 0.0)) != float(value):
            return False
    return True
