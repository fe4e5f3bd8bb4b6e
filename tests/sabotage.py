"""Models that look like the exported one and are not: each test of a gate spoils one thing."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the text ops of the model)
from tensorflow.core.protobuf import saved_model_pb2

from schema import names

Outputs = dict[str, tf.Tensor]
# (what the honest signature answers, inputs) -> the spoilt answer
Spoil = Callable[[Callable[..., Outputs], Mapping[str, tf.Tensor]], Outputs]
FEED = (names.RECOMMEND, names.SERVING_DEFAULT)


class _Spoilt(tf.Module):
    def __init__(self, honest: object):
        super().__init__()
        self.honest = honest


def spoil(source: Path, target: Path, spoilt: Mapping[str, Spoil], without: tuple[str, ...] = ()) -> Path:
    """Exports a model again with some signatures spoilt and some left out; everything else is as it was.

    Args:
      source: the exported model.
      target: gets the spoilt one.
      spoilt: signature -> how.
      without: signatures that are gone.
    """
    honest = tf.saved_model.load(str(source), tags=["serve"])
    functions = {}
    for name, function in honest.signatures.items():
        _, inputs = function.structured_input_signature
        specs = {key: tf.TensorSpec(spec.shape, spec.dtype, name=key) for key, spec in inputs.items()}

        def answer(function=function, name=name, **asked):
            return spoilt[name](function, asked) if name in spoilt else function(**asked)

        if name not in without:
            functions[name] = tf.function(answer, autograph=False).get_concrete_function(**specs)
    tf.saved_model.save(_Spoilt(honest), str(target), signatures=functions)
    _copy_defaults(source, target)
    shutil.copytree(source / "assets.extra", target / "assets.extra", dirs_exist_ok=True)
    return target


def _copy_defaults(source: Path, target: Path) -> None:
    honest, copy = (
        saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()) for folder in (source, target)
    )
    for name, definition in copy.meta_graphs[0].signature_def.items():
        known = honest.meta_graphs[0].signature_def.get(name)
        for key, value in (known.defaults if known else {}).items():
            if key in definition.inputs:
                definition.defaults[key].CopyFrom(value)
    (target / "saved_model.pb").write_bytes(copy.SerializeToString())
