"""Transform's `preprocessing_fn`: the only feature code, the same graph in training and in serving."""

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from schema import names

USER_VOCABULARY = "users"
ITEM_VOCABULARY = "items"
EVENT_VOCABULARY = "events"
CATEGORY_VOCABULARY = "categories"
TRAIT_BUCKETS = 1024

_AS_THEY_ARE = (
    names.ITEM_ID,
    names.USER_ID,
    names.TIMESTAMP,
    names.SEEN_TIMESTAMPS,
    names.SEEN_WINDOWS,
    names.HISTORY_TIMESTAMPS,
    names.WEIGHT,
    names.WINDOW,
    names.POPULARITY,
    names.TEXT,
    names.SENTIMENT,
    names.TEXT_EMBEDDING,
    names.IMAGE,
    names.IMAGE_EMBEDDING,
    names.SNAPSHOT_TIMESTAMPS,
)


def preprocessing_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    """Raw interaction features to model features; every one is sparse, since no split has them all.

    The vocabulary of items is the catalogue's, so that an item's index is its row in the model's tables whether or not
    anybody has met it; an item that is not in the catalogue has index -1. Users are those of the users split, events
    the configuration's, categories the catalogue's; an unknown one has the index after the last. No vocabulary is
    counted over the training split: what Transform analyses grows with the users and the items, not the log.
    """
    outputs = {name: inputs[name] for name in _AS_THEY_ARE}
    items = tft.vocabulary(inputs[names.ITEM_ID], vocab_filename=ITEM_VOCABULARY)
    users = tft.vocabulary(inputs[names.USER_ID], vocab_filename=USER_VOCABULARY)
    events = tft.vocabulary(inputs[names.KNOWN_EVENTS], vocab_filename=EVENT_VOCABULARY)
    for raw, indexed in (
        (names.ITEM_ID, names.ITEM_INDEX),
        (names.HISTORY_ITEM_IDS, names.HISTORY_ITEMS),
        (names.SEEN_ITEM_IDS, names.SEEN_ITEMS),
        (names.TARGET_ITEM_IDS, names.TARGET_ITEMS),
    ):
        outputs[indexed] = tft.apply_vocabulary(inputs[raw], items, default_value=-1)
    for raw, indexed, vocabulary in (
        (names.USER_ID, names.USER_INDEX, users),
        (names.HISTORY_EVENTS, names.HISTORY_EVENT_INDICES, events),
        (names.TARGET_EVENTS, names.TARGET_EVENT_INDICES, events),
    ):
        outputs[indexed] = tft.apply_vocabulary(inputs[raw], vocabulary, num_oov_buckets=1)
    # Hashed, since what is known of a moment's context is in the log alone, which is not analysed.
    outputs[names.TRAIT_INDICES] = tft.hash_strings(inputs[names.TRAITS], TRAIT_BUCKETS)
    outputs[names.CATEGORY_INDICES] = tft.compute_and_apply_vocabulary(
        inputs[names.CATEGORY], num_oov_buckets=1, vocab_filename=CATEGORY_VOCABULARY
    )
    outputs[names.PRICE_SCALED] = tft.scale_to_z_score(tf.sparse.map_values(tf.math.log1p, inputs[names.PRICE]))
    return outputs
