"""TFX's Pusher, with a push that a model server sees whole or not at all."""

import os
import time
from pathlib import Path
from typing import Any

from tfx.components import Pusher
from tfx.components.pusher.executor import Executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.types.artifact import Artifact
from tfx.utils import io_utils, proto_utils

from schema.fingerprints import fingerprint_of
from schema.saved_model import EXTRA, WARM_UP

_STAGING = ".staging"  # no number, so no server takes it for a version


class AtomicPusherExecutor(Executor):
    """Copies the model beside the versions and renames it into place; versions always grow."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if every blessing that is wired to the Pusher is given."""
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination)
        base, model = destination.filesystem.base_directory, self.GetModelPath(input_dict)
        version = next_version(base)
        staging, final = os.path.join(base, _STAGING), os.path.join(base, str(version))
        if fileio.exists(staging):  # of a push that was killed
            fileio.rmtree(staging)
        io_utils.copy_dir(model, staging)
        for blessing in input_dict.get(standard_component_specs.INFRA_BLESSING_KEY, []):
            _add_warm_up(blessing.uri, staging)
        fingerprint = fingerprint_of(Path(staging))
        io_utils.copy_dir(staging, pushed.uri)
        fileio.rename(staging, final)
        self._MarkPushed(pushed, pushed_destination=final, pushed_version=str(version))
        pushed.set_string_custom_property("fingerprint", fingerprint)


def _add_warm_up(blessing: str, model: str) -> None:
    """Puts the requests that ServingValidator has asked where TensorFlow Serving looks for them."""
    requests, extra = os.path.join(blessing, WARM_UP), os.path.join(model, EXTRA)
    if fileio.exists(requests):
        fileio.makedirs(extra)
        fileio.copy(requests, os.path.join(extra, WARM_UP))


def next_version(base: str) -> int:
    """Unix time, or one more than the newest version in `base` where that is later."""
    versions = [int(name) for name in fileio.listdir(base) if name.isdecimal()] if fileio.exists(base) else []
    return max([int(time.time()), *(version + 1 for version in versions)])


def atomic_pusher(**channels: Any) -> Pusher:
    """A Pusher with this executor; arguments as TFX's Pusher."""
    return Pusher(custom_executor_spec=executor_spec.ExecutorClassSpec(AtomicPusherExecutor), **channels)
