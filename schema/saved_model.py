"""A SavedModel as its signatures: inputs, outputs and defaults as a server sees them, callable with NumPy arrays."""

import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the text ops that an exported model holds)
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from schema.errors import InputError

SERVE_TAG = "serve"
EXTRA = "assets.extra"
WARM_UP = "tf_serving_warmup_requests"  # in EXTRA: TensorFlow Serving replays it before a version goes live
EXPECTED_ANSWERS = "expected_answers"  # in EXTRA: requests with the answers that Trainer had, as PredictionLogs
_INTERNAL = "__saved_model_init_op"


def read_signature_defs(path: str) -> dict[str, meta_graph_pb2.SignatureDef]:
    """The signatures that `saved_model.pb` declares for serving.

    Raises:
      InputError: there is no whole SavedModel with the tag `serve` at `path`.
    """
    try:
        with tf.io.gfile.GFile(os.path.join(path, "saved_model.pb"), "rb") as file:
            saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    except (tf.errors.OpError, DecodeError) as error:
        raise InputError(
            f"{path}: holds no readable SavedModel ({type(error).__name__}); give a version's folder."
        ) from error
    for graph in saved_model.meta_graphs:
        if SERVE_TAG in graph.meta_info_def.tags:
            return {name: definition for name, definition in graph.signature_def.items() if name != _INTERNAL}
    raise InputError(f"{path}: the SavedModel has no graph with the tag {SERVE_TAG}; export it again.")


class ServableModel:
    """A loaded SavedModel. Inputs that a request leaves out take the signature's defaults, as in TensorFlow Serving.

    Args:
      path: a version's folder.

    Raises:
      InputError: there is no whole SavedModel at `path`.
    """

    def __init__(self, path: str):
        self.path = path
        self.signature_defs = read_signature_defs(path)
        self._defaults = {
            name: {key: tf.make_ndarray(value) for key, value in definition.defaults.items()}
            for name, definition in self.signature_defs.items()
        }
        try:
            self._model = tf.saved_model.load(path, tags=[SERVE_TAG])
        except (OSError, tf.errors.OpError, ValueError, KeyError) as error:
            raise InputError(f"{path}: the SavedModel does not load ({type(error).__name__}: {error}).") from error

    def __call__(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one signature.

        Args:
          signature: its name, such as `names.RECOMMEND`.
          inputs: arrays by input name, dtypes and ranks as the signature declares them.

        Returns:
          Arrays by output name; strings as objects (bytes).

        Raises:
          KeyError: no such signature. ValueError or tf.errors.OpError: inputs that it cannot take.
        """
        function = self._model.signatures[signature]
        fed = {**self._defaults[signature], **inputs}
        declared = self.signature_defs[signature].inputs
        tensors = {name: tf.constant(value, tf.dtypes.as_dtype(declared[name].dtype)) for name, value in fed.items()}
        return {name: tensor.numpy() for name, tensor in function(**tensors).items()}
