"""Sentence embeddings by BERT, tokenised in the graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from trainer import hub, hugging_face
from trainer.encoder_files import is_saved_model, is_uncased, pooling_of


class TextEncoder(tf.Module):
    """Raw strings to unit vectors: WordPiece, BERT, mean over the tokens or [CLS], L2 norm.

    Args:
      bert: called with `input_word_ids`, `input_mask` and `input_type_ids`, each [batch, length] int32, gives
        `sequence_output`, [batch, length, dimensions].
      dimensions: of its output.
      vocabulary: word pieces in the order of their ids.
      uncased: whether they are lower-case without accents.
      max_tokens: word pieces of a text that are read, [CLS] and [SEP] included.
      pooling: `mean` or `cls`.
    """

    def __init__(
        self,
        bert: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
        dimensions: int,
        vocabulary: list[str],
        uncased: bool,
        max_tokens: int,
        pooling: str,
    ):
        super().__init__(name="text_encoder")
        self.bert, self.dimensions = bert, dimensions
        self._max_tokens, self._pooling = max_tokens, pooling
        self._cls, self._sep = vocabulary.index("[CLS]"), vocabulary.index("[SEP]")
        self._tokenizer = tf_text.FastBertTokenizer(
            vocabulary, token_out_type=tf.int32, lower_case_nfd_strip_accents=uncased
        )

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Embeds texts.

        Args:
          texts: [batch] string, UTF-8; what is not UTF-8 is read with replacement characters.

        Returns:
          [batch, dimensions] float32, of unit length; the empty text is embedded as its special tokens.
        """
        ids = self.tokens(texts)
        return self.embed(ids.to_tensor(), ids.row_lengths())

    def tokens(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """[batch] string to the word pieces that are read, special tokens included: [batch, None] int32."""
        edge = tf.ones([tf.shape(texts)[0], 1], tf.int32)
        return tf.concat([edge * self._cls, self._pieces(texts), edge * self._sep], axis=1)

    def embed(self, ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """What `__call__` makes of word pieces: `ids` [batch, length] int32, of which the first `lengths` ([batch]) of
        each row are read."""
        mask = tf.sequence_mask(lengths, tf.shape(ids)[1], dtype=tf.int32)
        output = self.bert({"input_word_ids": ids, "input_mask": mask, "input_type_ids": tf.zeros_like(ids)})
        tokens = tf.cast(output["sequence_output"], tf.float32)
        if self._pooling == "cls":
            return tf.math.l2_normalize(tokens[:, 0], axis=1)
        weights = tf.cast(mask, tf.float32)[:, :, tf.newaxis]
        mean = tf.reduce_sum(tokens * weights, axis=1) / tf.reduce_sum(weights, axis=1)
        return tf.math.l2_normalize(mean, axis=1)

    def lengths(self, texts: tf.Tensor) -> tf.Tensor:
        """[batch] string to [batch] int64: how many word pieces are read, special tokens included."""
        return self._pieces(texts).row_lengths() + 2

    def _pieces(self, texts: tf.Tensor) -> tf.RaggedTensor:
        valid = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        return self._tokenizer.tokenize(valid)[:, : self._max_tokens - 2]


def open_encoder(folder: str, max_tokens: int, precision: str = "float32") -> "TextEncoder | hub.SentenceModel":
    """The encoder of a folder.

    Args:
      folder: see `encoder_files.resolve_encoder`.
      max_tokens: word pieces of a text that are read, [CLS] and [SEP] included.
      precision: a Keras policy, such as `mixed_bfloat16`, for Hugging Face-style folders.

    Raises:
      InputError: the folder holds no BERT that this encoder can be.
    """
    if not is_saved_model(folder):
        config = hugging_face.read_config(folder)
        vocabulary = (Path(folder) / "vocab.txt").read_text(encoding="utf-8").splitlines()
        longest = min(max_tokens, config["max_position_embeddings"])
        bert = hugging_face.load_bert(folder, precision)
        return TextEncoder(bert, config["hidden_size"], vocabulary, is_uncased(folder), longest, pooling_of(folder))
    loaded = hub.load(folder)
    if isinstance(loaded, hub.SentenceModel):
        return loaded
    return TextEncoder(loaded, loaded.dimensions, loaded.vocabulary, loaded.uncased, max_tokens, pooling_of(folder))


def load_encoder(folder: str, max_tokens: int) -> "BatchEncoder":
    """An encoder for Beam workers. See `BatchEncoder.encode`."""
    return BatchEncoder(open_encoder(folder, max_tokens))


class BatchEncoder:
    """A compiled `TextEncoder` over NumPy."""

    def __init__(self, encoder: "TextEncoder | hub.SentenceModel"):
        self._encode = tf.function(encoder, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        self._lengths = tf.function(
            encoder.lengths, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )

    def lengths(self, texts: list[str]) -> list[int]:
        """How many word pieces of each text are read, special tokens included."""
        return self._lengths(tf.constant(texts, tf.string)).numpy().tolist()

    def encode(self, texts: list[str]) -> np.ndarray:
        """Embeds texts as one batch: [len(texts), dimensions] float32."""
        return self._encode(tf.constant(texts, tf.string)).numpy()
