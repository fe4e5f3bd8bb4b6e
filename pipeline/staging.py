"""What a step reads and writes, where Beam's workers see it.

A step's artifacts are folders of the machine that the step runs on: the workspace, or what Kubeflow's launcher has
copied into the container. Workers on other machines see neither. Where the configuration names a folder that they do
see (`beam.shared`), the artifacts of a step that uses Beam lie there while it runs.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.io import fileio
from tfx.orchestration.portable import python_executor_operator
from tfx.types.artifact import Artifact
from tfx.utils import io_utils

Artifacts = Mapping[str, list[Artifact]]
_BUCKET = "gs://"


def is_seen(uri: str, shared: str) -> bool:
    """Whether workers that see the folder `shared` see an artifact where it is: both are in a bucket that TFX reads."""
    return uri.startswith(_BUCKET) and shared.startswith(_BUCKET)


@contextmanager
def staged(inputs: Artifacts, outputs: Artifacts, shared: str) -> Iterator[None]:
    """Has artifacts lie below a folder meanwhile: inputs are copied there before, and outputs from there after, unless
    there was an error. They say where they are by their `uri`.

    Args:
      shared: the folder, a path or a `gs://` URL; empty: the artifacts stay where they are.
    """
    if not shared:
        yield
        return
    place = f"{shared}/{uuid.uuid4().hex}"
    # By name and number: an executor may put other objects in the place of its outputs.
    were = [
        (artifacts, name, number, artifact.uri, f"{place}/{kind}/{name}/{number}")
        for kind, artifacts in (("inputs", inputs), ("outputs", outputs))
        for name, found in artifacts.items()
        for number, artifact in enumerate(found)
        if not is_seen(artifact.uri, shared)
    ]
    try:
        for artifacts, name, number, uri, there in were:
            if artifacts is inputs:
                io_utils.copy_dir(uri, there)
            else:
                fileio.makedirs(there)
            artifacts[name][number].uri = there
        yield
        for artifacts, _, _, uri, there in were:
            if artifacts is outputs:
                io_utils.copy_dir(there, uri)
    finally:
        for artifacts, name, number, uri, _ in were:
            artifacts[name][number].uri = uri
        if were and fileio.exists(place):
            fileio.rmtree(place)


@contextmanager
def of_local_runs(shared: str) -> Iterator[None]:
    """Does so for each step that uses Beam of pipelines that run in this process; TFX has no hook for it."""
    run = python_executor_operator.run_with_executor

    def run_staged(execution: Any, executor: Any) -> Any:
        if isinstance(executor, BaseBeamExecutor):
            do = executor.Do

            def do_staged(inputs: Artifacts, outputs: Artifacts, properties: dict[str, Any]) -> Any:
                with staged(inputs, outputs, shared):
                    return do(inputs, outputs, properties)

            executor.Do = do_staged
        return run(execution, executor)

    python_executor_operator.run_with_executor = run_staged
    try:
        yield
    finally:
        python_executor_operator.run_with_executor = run
