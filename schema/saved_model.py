"""A SavedModel as its signatures: inputs, outputs and defaults as a server sees them, callable with NumPy arrays."""

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the text ops that an exported model holds)
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, rewriter_config_pb2, saved_model_pb2

from schema.errors import InputError

SERVE_TAG = "serve"
EXTRA = "assets.extra"
WARM_UP = "tf_serving_warmup_requests"  # in EXTRA: TensorFlow Serving replays it before a version goes live
EXPECTED_ANSWERS = "expected_answers"  # in EXTRA: requests with the answers that Trainer had, as PredictionLogs
_INTERNAL = "__saved_model_init_op"
# TensorFlow would go over a graph twice before its first answer: the second time takes as long, and gains nothing here.
_OPTIMIZED_ONCE = tf.compat.v1.ConfigProto(
    graph_options={"rewrite_options": {"meta_optimizer_iterations": rewriter_config_pb2.RewriterConfig.ONE}}
)


def read_signature_defs(path: str, tags: Collection[str] = (SERVE_TAG,)) -> dict[str, meta_graph_pb2.SignatureDef]:
    """The signatures that `saved_model.pb` declares for serving.

    Raises:
      InputError: there is no whole SavedModel with these tags at `path`.
    """
    try:
        with tf.io.gfile.GFile(os.path.join(path, "saved_model.pb"), "rb") as file:
            saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    except (tf.errors.OpError, DecodeError) as error:
        raise InputError(
            f"{path}: holds no readable SavedModel ({type(error).__name__}); give a version's folder."
        ) from error
    for graph in saved_model.meta_graphs:
        if set(graph.meta_info_def.tags) == set(tags):
            return {name: definition for name, definition in graph.signature_def.items() if name != _INTERNAL}
    raise InputError(f"{path}: the SavedModel has no graph with the tag {', '.join(tags)}; export it again.")


class ServableModel:
    """A loaded SavedModel. Inputs that a request leaves out take the signature's defaults, as in TensorFlow Serving.

    It runs as TensorFlow Serving runs it: a session of its own feeds and fetches the tensors that the signatures name,
    whatever API wrote the model. What the session holds is freed with `close`, or with the object.

    Args:
      path: a version's folder.
      tags: of the graph to load.
      config: what a session of ours is to do otherwise.

    Attributes:
      signature_defs: signature name -> its definition.
      defaults: signature name -> input name -> array, for inputs that a request may leave out.

    Raises:
      InputError: there is no whole SavedModel at `path`.
    """

    def __init__(
        self,
        path: str,
        tags: Collection[str] = (SERVE_TAG,),
        config: tf.compat.v1.ConfigProto | None = None,
    ):
        self.path = path
        self.signature_defs = read_signature_defs(path, tags)
        self.defaults = {
            name: {key: tf.make_ndarray(value) for key, value in definition.defaults.items()}
            for name, definition in self.signature_defs.items()
        }
        merged = tf.compat.v1.ConfigProto()
        merged.MergeFrom(_OPTIMIZED_ONCE)
        if config is not None:
            merged.MergeFrom(config)
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=merged)
        try:
            with self._session.graph.as_default(), _quiet():
                tf.compat.v1.saved_model.load(self._session, list(tags), path)
        except (OSError, tf.errors.OpError, ValueError, KeyError, RuntimeError) as error:
            self.close()
            raise InputError(f"{path}: the SavedModel does not load ({type(error).__name__}: {error}).") from error

    def __call__(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Collection[str] = (),
        timeout_ms: int = 0,
    ) -> dict[str, np.ndarray]:
        """Runs one signature.

        Args:
          signature: its name, such as `names.RECOMMEND`.
          inputs: arrays by input name, dtypes and ranks as the signature declares them.
          outputs: those that are wanted; all where empty.
          timeout_ms: after which it is given up; never where 0.

        Returns:
          Arrays by output name; strings as objects (bytes).

        Raises:
          KeyError: no such signature, input or output. ValueError or tf.errors.OpError: inputs that it cannot take;
          tf.errors.DeadlineExceededError: the time is over.
        """
        declared = self.signature_defs[signature]
        fed = {**self.defaults[signature], **inputs}
        fetches = {name: declared.outputs[name].name for name in outputs or declared.outputs}
        feeds = {declared.inputs[name].name: value for name, value in fed.items()}
        options = tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms) if timeout_ms else None
        return {name: np.asarray(value) for name, value in self._session.run(fetches, feeds, options).items()}

    def close(self) -> None:
        """Frees what the session holds; nobody may be asking any more."""
        self._session.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """The loader of sessions advises, each time, to load for eager execution, which a server does not want."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
