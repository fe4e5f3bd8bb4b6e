"""One step of a compiled pipeline, in its container: what Kubeflow's launcher starts.

    python -m pipeline.kubeflow.step --executor_class_path C --json_serialized_invocation_args '{…}' …

TFX's own entry point is made for Vertex AI. On open-source Kubeflow Pipelines artifacts lie in object stores that TFX
does not read (`minio://`, `s3://`), while the launcher has copied a step's inputs to local folders, and copies what it
finds in its outputs' folders back; and artifacts may come without their type or without the properties by which TFX
knows a model's layout. So here a step reads and writes the launcher's folders, its artifacts' types come along in the
compiled pipeline, and what its settings say of `${NAME}` becomes the pipeline's parameter of that name.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as spec_pb2
from tfx import version
from tfx.dsl.components.base import base_beam_executor, base_executor
from tfx.dsl.io import fileio
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as entrypoint
from tfx.orchestration.portable import outputs_utils
from tfx.types.artifact import Artifact
from tfx.utils import import_utils

from components.last_pushed_model import is_missing
from pipeline.kubeflow.placeholders import FINGERPRINT, PREFIX, fill
from pipeline.kubeflow.settings import SHARED
from pipeline.staging import is_seen, staged
from schema.errors import HomefeedError
from trainer.encoder_files import fingerprint, resolve_encoder

MOUNTS = "HOMEFEED_MOUNTS"  # environment: the folder that the launcher's folders are in; / where it is not set
_SCHEMAS = Path(__file__).resolve().parents[2] / "schema"
_LOCAL = {"gs://": "gcs", "minio://": "minio", "s3://": "s3"}
_TFX_VERSION = "tfx_version"


def local_path(uri: str) -> str:
    """Where the launcher keeps what is at a URI: as its LocalPathForURI. Other URIs are paths already."""
    for scheme, folder in _LOCAL.items():
        if uri.startswith(scheme):
            return os.path.join(os.environ.get(MOUNTS, "/"), folder, uri[len(scheme) :])
    return uri


def run_step(
    executor_class: str,
    executor_input: spec_pb2.ExecutorInput,
    inputs_spec: spec_pb2.ComponentInputsSpec,
    types: Mapping[str, Mapping[str, str]],
    beam_args: list[str],
) -> spec_pb2.ExecutorOutput:
    """Runs an executor.

    Args:
      executor_class: its import path.
      executor_input: what the launcher passes; changed in place.
      inputs_spec: the component's, for the types of its parameters.
      types: `inputs` and `outputs` -> artifact's name -> import path of its class.
      beam_args: for executors that use Beam.

    Returns:
      What the launcher reads of the outputs: their URIs and properties.
    """
    parameters = executor_input.inputs.parameter_values
    places = {
        key[len(PREFIX) :]: parameters.pop(key).string_value for key in list(parameters) if key.startswith(PREFIX)
    }
    if "encoder" in places:
        places["encoder"] = resolve_encoder(places["encoder"])
    if "schemas" in places:
        places["schemas"] = places["schemas"] or str(_SCHEMAS)
    shared = places.pop(SHARED, "").rstrip("/")
    ids: dict[int, str] = {}
    found = {
        kind: _artifacts(lists, types[kind], ids)
        for kind, lists in (("inputs", executor_input.inputs.artifacts), ("outputs", executor_input.outputs.artifacts))
    }
    inputs = {name: artifacts for name, artifacts in found["inputs"].items() if not any(map(is_missing, artifacts))}
    outputs = found["outputs"]
    uris = {name: artifact.uri for name, (artifact,) in outputs.items()}
    for artifacts in (*inputs.values(), *outputs.values()):
        for artifact in artifacts:
            artifact.uri = artifact.uri if is_seen(artifact.uri, shared) else local_path(artifact.uri)
    for (artifact,) in outputs.values():
        fileio.makedirs(artifact.uri)
    properties = entrypoint.parse_execution_properties(parameters, {}, inputs_spec)
    if "max_tokens" in properties:
        places[FINGERPRINT] = fingerprint(places["encoder"], properties["max_tokens"])
    executor = _executor(executor_class, beam_args, local_path(executor_input.outputs.output_file))
    with staged(inputs, outputs, shared):
        executor.Do(inputs, outputs, {name: fill(value, places) for name, value in properties.items()})
    outputs_utils.tag_output_artifacts_with_version(outputs)
    for name, (artifact,) in outputs.items():
        artifact.uri = uris[name]
    answer = spec_pb2.ExecutorOutput()
    for name, artifacts in entrypoint.translate_executor_output(outputs, ids).items():
        answer.artifacts[name].CopyFrom(artifacts)
    return answer


def _artifacts(
    lists: Mapping[str, spec_pb2.ArtifactList], types: Mapping[str, str], ids: dict[int, str]
) -> dict[str, list[Artifact]]:
    """Artifacts of the classes that were compiled in, with the properties that TFX goes by."""
    known = {name: artifacts for name, artifacts in lists.items() if name in types}  # the launcher adds logs of its own
    for name, artifacts in known.items():
        for artifact in artifacts.artifacts:
            artifact.type.Clear()
            artifact.type.schema_title = types[name]
    parsed = entrypoint.parse_raw_artifact_dict(known, ids)
    for artifacts in parsed.values():
        for artifact in artifacts:
            if not artifact.has_custom_property(_TFX_VERSION):
                artifact.set_string_custom_property(_TFX_VERSION, version.__version__)
    return {name: artifacts for name, artifacts in parsed.items() if artifacts}


def _executor(path: str, beam_args: list[str], output_file: str) -> Any:
    executor_class = import_utils.import_class_by_path(path)
    folder = Path(output_file).parent
    where = {"unique_id": folder.name, "tmp_dir": str(folder / ".temp")}
    if issubclass(executor_class, base_beam_executor.BaseBeamExecutor):
        return executor_class(base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=beam_args, **where))
    return executor_class(base_executor.BaseExecutor.Context(extra_flags=beam_args, **where))


def main(arguments: list[str]) -> None:
    """Runs the step that the arguments name, and writes what came of it where the launcher looks for it."""
    parser = argparse.ArgumentParser()
    for name in ("executor_class_path", "json_serialized_invocation_args", "json_serialized_inputs_spec_args", "types"):
        parser.add_argument(f"--{name}", required=True)
    told, beam_args = parser.parse_known_args(arguments)
    sys.argv = sys.argv[:1]  # TFX's Beam executors read the command line for absl's flags, as if it were theirs
    executor_input = json_format.Parse(
        told.json_serialized_invocation_args, spec_pb2.ExecutorInput(), ignore_unknown_fields=True
    )
    inputs_spec = json_format.Parse(
        told.json_serialized_inputs_spec_args, spec_pb2.ComponentInputsSpec(), ignore_unknown_fields=True
    )
    types = json.loads(told.types)
    _tell_progress()
    try:
        answer = run_step(told.executor_class_path, executor_input, inputs_spec, types, beam_args)
    except HomefeedError as error:
        print(f"homefeed: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    output_file = local_path(executor_input.outputs.output_file)
    fileio.makedirs(str(Path(output_file).parent))
    with fileio.open(output_file, "w") as file:
        file.write(json_format.MessageToJson(answer))


def _tell_progress() -> None:
    """The container's log gets what steps say of their progress, but for what is only of the moment."""
    told = logging.StreamHandler()
    told.addFilter(lambda record: not hasattr(record, "share"))
    told.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    progress = logging.getLogger("homefeed.progress")
    progress.setLevel(logging.INFO)
    progress.addHandler(told)
    progress.propagate = False


if __name__ == "__main__":
    main(sys.argv[1:])
