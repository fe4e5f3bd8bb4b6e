"""LastPushedModel: the last pushed model, as it lies in the folder of versions.

For runners where `LastPushedModelStrategy` cannot ask ML Metadata: Kubeflow's know no resolvers but two of TFX's own.
It always has an output; `is_there` says whether there is a model in it.
"""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Model
from tfx.utils import io_utils, path_utils

from components.baseline import can_be_compared

IS_THERE = "is_there"


def is_missing(artifact: Artifact) -> bool:
    """Whether this step has made an artifact to say that there is none."""
    return artifact.has_custom_property(IS_THERE) and artifact.get_int_custom_property(IS_THERE) == 0


@component
def LastPushedModel(
    model: OutputArtifact[Model],
    folder: Parameter[str],
    code_version: Parameter[str],
    candidate: InputArtifact[Model] = None,
) -> None:
    """Copies the newest version.

    Args:
      model: gets the model, as Trainer writes one.
      folder: of the pushed versions.
      candidate: this run's model, where the other is to be compared with it: left out is one whose metrics cannot be
        computed.
    """
    versions = sorted(int(name) for name in fileio.listdir(folder) if name.isdecimal()) if fileio.exists(folder) else []
    model.set_int_custom_property(IS_THERE, 0)
    if not versions:
        return
    newest = os.path.join(folder, str(versions[-1]))
    io_utils.copy_dir(newest, path_utils.serving_model_path(model.uri))
    if candidate and not can_be_compared(model.uri):
        return
    model.set_int_custom_property(IS_THERE, 1)
    model.set_string_custom_property("pushed_version", str(versions[-1]))
