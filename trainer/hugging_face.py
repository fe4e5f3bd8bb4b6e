"""Hugging Face-style BERT folders in Model Garden's encoder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from official.nlp.modeling import networks
from safetensors.numpy import load_file

from schema.errors import InputError


def read_config(folder: str) -> dict[str, Any]:
    """The folder's config.json.

    Raises:
      InputError: it is of no BERT.
    """
    config: dict[str, Any] = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "bert":
        raise InputError(f"{folder}/config.json: model_type is {config.get('model_type')!r}; only bert is supported.")
    return config


def load_bert(folder: str, precision: str) -> tf.keras.Model:
    """Builds the encoder by config.json and fills it with model.safetensors.

    Args:
      folder: see `encoder_files.resolve_encoder`.
      precision: a Keras policy, such as `mixed_bfloat16`.

    Raises:
      InputError: the weights are not those of the configuration.
    """
    config = read_config(folder)
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(precision)  # the encoder's layers ask for it when they are made
    try:
        bert = _bert(config)
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
    _load_weights(bert, load_file(str(Path(folder) / "model.safetensors")), config)
    bert.trainable = False
    return bert


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
