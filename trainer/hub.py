"""Text encoders as SavedModels, of the two kinds that TensorFlow Hub has: BERT that takes word pieces, with its
vocabulary as an asset, and models that take sentences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops that such models may hold)

from schema.errors import InputError

_WORD_PIECES = ("input_word_ids", "input_mask", "input_type_ids")


class WordPieceModel(tf.Module):
    """A BERT of Hub's kind: `bert(dict)` gives `sequence_output`; `vocab_file` and `do_lower_case` are its attributes.

    Args:
      folder: where it is.
      model: loaded.
    """

    def __init__(self, folder: str, model: Any):
        super().__init__(name="hub_bert")
        self._model = model
        self.vocabulary = _vocabulary(folder, model)
        self.uncased = bool(getattr(model, "do_lower_case", tf.constant(True)).numpy())
        self.dimensions = int(self(dict.fromkeys(_WORD_PIECES, tf.ones([1, 2], tf.int32)))["sequence_output"].shape[-1])

    @property
    def trainable_variables(self) -> Sequence[tf.Variable]:
        return list(self._model.trainable_variables)

    def __call__(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """See `TextEncoder`."""
        return dict(self._model(inputs, training=False))


class SentenceModel(tf.Module):
    """A model that takes sentences; its vectors are brought to unit length.

    Args:
      model: loaded; [batch] string to [batch, dimensions] float32.
    """

    def __init__(self, model: Any):
        super().__init__(name="sentence_model")
        self._model = model
        self.dimensions = int(self(tf.constant(["a"])).shape[1])

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """[batch] string to [batch, dimensions] float32, of unit length."""
        return tf.math.l2_normalize(self._model(texts), axis=1)

    def lengths(self, texts: tf.Tensor) -> tf.Tensor:
        """[batch] string to [batch] int64: words, by which texts of like length come together."""
        return tf.strings.split(texts).row_lengths()


def load(folder: str) -> WordPieceModel | SentenceModel:
    """Loads a SavedModel. No code but TensorFlow's graph is run.

    Raises:
      InputError: it is of neither kind.
    """
    try:
        model = tf.saved_model.load(folder)
    except (OSError, tf.errors.OpError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: the SavedModel does not load ({type(error).__name__}: {error}).") from error
    for kind in (lambda: WordPieceModel(folder, model), lambda: SentenceModel(model)):
        try:
            return kind()
        except (TypeError, ValueError, AttributeError, KeyError, tf.errors.OpError):
            continue  # of the other kind, perhaps: a function of other inputs refuses these
    raise InputError(
        f"{folder}: the SavedModel takes neither sentences ([batch] string to [batch, n] float) nor BERT's word pieces "
        f"({', '.join(_WORD_PIECES)} to sequence_output, with a vocab_file)."
    )


def _vocabulary(folder: str, model: Any) -> list[str]:
    asset = model.vocab_file.asset_path.numpy().decode() if hasattr(model, "vocab_file") else ""
    file = Path(asset) if asset else Path(folder) / "assets" / "vocab.txt"
    if not file.is_file():
        raise KeyError("vocab_file")
    return file.read_text(encoding="utf-8").splitlines()
