"""The exported model's signatures, written down once for who exports, who checks and who asks."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from schema import names

# Input -> (dtype, rank, default: None where the request has to bring it). Every rank counts the batch.
INPUTS: dict[str, tuple[tf.DType, int, Any]] = {
    names.EXAMPLES: (tf.string, 1, None),
    names.USER_ID: (tf.string, 1, None),
    names.ITEM_ID: (tf.string, 1, None),
    names.ITEM_IDS: (tf.string, 2, None),
    names.QUERY: (tf.string, 1, None),
    names.TRAITS: (tf.string, 2, [[names.PADDING]]),
    names.HISTORY_ITEM_IDS: (tf.string, 2, [[names.PADDING]]),
    names.HISTORY_EVENTS: (tf.string, 2, [[names.PADDING]]),
    names.HISTORY_TIMESTAMPS: (tf.int64, 2, [[0]]),
    names.TIMESTAMP: (tf.int64, 1, [0]),
    names.K: (tf.int32, 1, [20]),
    names.EXCLUDE_ITEM_IDS: (tf.string, 2, [[names.PADDING]]),
    names.EXCLUDE_SEEN: (tf.bool, 1, [True]),
    names.DIVERSITY: (tf.float32, 1, [0.0]),
    names.EXPLORATION: (tf.float32, 1, [0.0]),
    names.SEED: (tf.int64, 1, [0]),
    names.NEW_ITEMS_EVERY: (tf.int32, 1, [0]),  # of an export: the configuration's
}

_LIST = (names.ITEM_IDS, names.SCORES)
_FEED = ((names.USER_ID,), (*_LIST, names.REASONS, names.PROPENSITIES))
_EVALUATED = (
    names.RANKS,
    names.RELEVANT,
    names.TOP_ITEMS,
    names.TOP_POPULARITY,
    names.TOP_DIVERSITY,
    names.HISTORY_POPULARITY,
    names.CATALOG_SIZE,
    names.INDEX_RECALL,
)
# Signature -> (inputs that a request has to bring, outputs that it gives at least).
SIGNATURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    names.SERVING_DEFAULT: _FEED,
    names.RECOMMEND: _FEED,
    names.SIMILAR_ITEMS: ((names.ITEM_ID,), _LIST),
    names.SEARCH: ((names.QUERY,), _LIST),
    names.SCORE: ((names.USER_ID, names.ITEM_IDS), (names.SCORES,)),
    names.EMBED_QUERY: ((names.USER_ID,), (names.EMBEDDING,)),
    names.EMBED_ITEM: ((names.ITEM_ID,), (names.EMBEDDING,)),
    names.EVALUATE: ((names.EXAMPLES,), _EVALUATED),
}


def input_specs(inputs: Iterable[str]) -> list[tf.TensorSpec]:
    """What a function is traced with that takes inputs by these names."""
    declared = ((name, *INPUTS[name][:2]) for name in inputs)
    return [tf.TensorSpec([None] * rank, dtype, name=name) for name, dtype, rank in declared]
