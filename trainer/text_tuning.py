"""Training BERT along with the towers: which of its weights move, and the catalogue's texts meanwhile."""

from typing import Any

import numpy as np
import tensorflow as tf

from schema.errors import InputError
from trainer.contents import MadeContent
from trainer.hub import SentenceModel, WordPieceModel
from trainer.text_encoder import TextEncoder

FROZEN, LAST_N, LORA, FULL = "frozen", "last_n", "lora", "full"


class TunedTexts(MadeContent):
    """The catalogue's texts while their encoder is trained.

    Args:
      encoder: with the weights to begin with.
      texts: [items] the items' texts, bytes.
      settings: the configuration's `encoder` section: `mode`, `last_n`, `lora_rank`, `recompute`.

    Raises:
      InputError: the encoder cannot be trained so.
    """

    def __init__(self, encoder: TextEncoder | SentenceModel, texts: np.ndarray, settings: dict[str, Any]):
        tf.Module.__init__(self, name="tuned_texts")
        if isinstance(encoder, SentenceModel):
            raise InputError("encoder.mode: a model that takes sentences can only be `frozen`.")
        self.encoder = encoder
        self._lora = choose_weights(encoder.bert, settings["mode"], settings["last_n"], settings["lora_rank"])
        if settings["recompute"] and not isinstance(encoder.bert, WordPieceModel):
            _recompute(encoder.bert)
        pieces = encoder.tokens(tf.constant(texts.tolist(), tf.string))
        self._lengths = tf.Variable(pieces.row_lengths(), trainable=False)
        self._pieces = tf.Variable(pieces.to_tensor(), trainable=False)
        # Texts of like length together, so that little is padding.
        super().__init__(np.argsort(self._lengths.numpy(), kind="stable"))

    @property
    def slow(self) -> list[tf.Variable]:
        """The encoder's weights that are trained."""
        adapters = [variable for adapter in self._lora for variable in adapter.trainable_variables]
        return adapters or list(self.encoder.bert.trainable_variables)

    def fresh(self, items: tf.Tensor) -> tf.Tensor:
        """[n, text dimensions] float32 of the texts of items ([n] int64), by the weights as they are."""
        lengths = tf.gather(self._lengths, items)
        return self.encoder.embed(tf.gather(self._pieces, items)[:, : tf.reduce_max(lengths)], lengths)


def choose_weights(bert: tf.keras.Model | WordPieceModel, mode: str, last_n: int, rank: int) -> list["LowRank"]:
    """Marks the weights of an encoder that are trained.

    Args:
      bert: the encoder; of a SavedModel all is trained or nothing.
      mode: `last_n`: the last transformer layers; `lora`: low-rank additions to the query and value kernels of every
        layer, beside fixed weights; `full`: everything that the output depends on.
      last_n: how many layers.
      rank: of the additions.

    Returns:
      The additions of `lora`.

    Raises:
      InputError: there are not so many layers, or they cannot be told apart.
    """
    if isinstance(bert, WordPieceModel):
        if mode != FULL:
            raise InputError("encoder.mode: of a SavedModel the layers cannot be told apart; `frozen` or `full`.")
        return []
    layers = list(bert.transformer_layers)
    if mode == LAST_N and last_n > len(layers):
        raise InputError(f"encoder.last_n: is {last_n}; the encoder has {len(layers)} layers.")
    bert.trainable = mode != FROZEN
    bert._pooler_layer.trainable = False  # what reads [CLS] for another task
    added: list[LowRank] = []
    if mode == LAST_N:
        bert._embedding_layer.trainable = False
        bert._position_embedding_layer.trainable = bert._type_embedding_layer.trainable = False
        bert._embedding_norm_layer.trainable = False
        for layer in layers[:-last_n]:
            layer.trainable = False
    if mode == LORA:
        bert.trainable = False
        for layer in layers:
            attention = layer._attention_layer
            for name in ("_query_dense", "_value_dense"):
                added.append(LowRank(getattr(attention, name), rank))
                setattr(attention, name, added[-1])
    return added


class LowRank(tf.keras.layers.Layer):
    """A projection to attention heads with a low-rank addition to its fixed kernel (LoRA: Hu et al. 2021, arXiv
    2106.09685, with alpha twice the rank); the addition begins at nothing.

    Args:
      fixed: an EinsumDense of kernel [size, heads, head size].
      rank: of the addition.
    """

    def __init__(self, fixed: tf.keras.layers.Layer, rank: int):
        super().__init__(name=f"{fixed.name}_low_rank", dtype=fixed.dtype_policy)
        size, heads, head_size = fixed.kernel.shape
        self._fixed = fixed
        self._down = self.add_weight("down", [size, rank], initializer="he_uniform")
        self._up = self.add_weight("up", [rank, heads, head_size], initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[batch, length, size] to [batch, length, heads, head size]."""
        low = tf.einsum("bls,sr->blr", inputs, self._down)
        return self._fixed(inputs) + 2.0 * tf.einsum("blr,rhd->blhd", low, self._up)


def _recompute(bert: tf.keras.Model) -> None:
    """Keeps only each layer's input for the backward pass and computes the rest again there (gradient checkpointing:
    Chen et al. 2016, arXiv 1604.06174)."""
    for layer in bert.transformer_layers:
        call = layer.call

        def checkpointed(inputs: Any, output_range: Any = None, call: Any = call) -> Any:
            data, mask = inputs
            return tf.recompute_grad(lambda one, other: call([one, other], output_range=output_range))(data, mask)

        layer.call = checkpointed
