"""What the ranking stage learns from: the first stage's weights, and its candidates of states whose future is known."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.channels import Channels
from trainer.data import States, inputs_of, with_targets
from trainer.ranker import Lists, listwise_loss, moments_of

_BATCH = 32  # states whose features are computed at once
_FIRST_STAGE = 512  # states, and items of each, that the first stage's weights are learned from


def learn_first_stage(channels: Channels, states: States, offered: np.ndarray, seed: int) -> np.ndarray:
    """[features] float32: weights of the channels' features by listwise softmax over a window's relevant items and
    random ones of what was offered ([items] bool)."""
    random, catalogue = np.random.default_rng(seed), len(offered)
    items = min(_FIRST_STAGE, catalogue)
    lists = []
    for row, values in _features(channels, states, with_targets(states, _FIRST_STAGE)):
        relevant = np.unique(states.targets.row(row))
        relevant = relevant[relevant >= 0][:items]
        drawn = random.choice(catalogue, items, replace=False)
        drawn[: len(relevant)] = relevant
        is_relevant = np.arange(items) < len(relevant)
        is_free = is_relevant | (offered[drawn] & ~np.isin(drawn, np.concatenate([relevant, states.seen.row(row)])))
        lists.append((values[drawn], is_free, is_relevant))
    features, allowed, relevant = map(np.stack, zip(*lists, strict=True))
    flat = features[allowed]
    mean, deviation = moments_of(flat)
    weights = tf.Variable(tf.zeros([features.shape[2]]))
    optimizer = tf.keras.optimizers.Adam(0.05)
    standard = (features - mean) / deviation

    @tf.function(autograph=False)
    def step(part: tf.Tensor, allowed: tf.Tensor, relevant: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = listwise_loss(tf.linalg.matvec(part, weights), allowed, relevant)
        optimizer.apply_gradients([(tape.gradient(loss, weights), weights)])

    for _ in range(10):
        for rows in np.array_split(random.permutation(len(lists)), max(1, len(lists) // 64)):
            step(standard[rows], allowed[rows], relevant[rows].astype(np.float32))
    return (weights.numpy() / deviation).astype(np.float32)


def candidate_lists(
    channels: Channels,
    states: States,
    offered: np.ndarray,
    weights: np.ndarray,
    hyper: dict[str, Any],
    events: int,
) -> Lists:
    """The first stage's candidates of states that have anything relevant.

    Args:
      channels: as of the states' moments.
      states: of one window or several.
      offered: [items] bool, what may be a candidate.
      weights: [features] float32, the first stage's.
      hyper: the configuration's `ranking` section.
      events: size of the vocabulary of events.
    """
    rows = with_targets(states, hyper["states"])
    count, catalogue = min(hyper["candidates"], len(offered)), len(offered)
    features = np.zeros((len(rows), count, len(weights)), np.float16)
    allowed = np.zeros((len(rows), count), bool)
    labels = np.zeros((len(rows), count, events + 1), bool)
    for place, (row, values) in enumerate(_features(channels, states, rows)):
        first = values @ weights
        first[states.seen.row(row)] = -np.inf
        first[~offered] = -np.inf
        chosen = np.argpartition(-first, count - 1)[:count]
        features[place], allowed[place] = values[chosen], first[chosen] > -np.inf
        targets, target_events = states.targets.row(row), states.target_events.row(row)
        position = np.full(catalogue + 1, -1)  # the last is that of what is no item
        position[chosen] = np.arange(count)
        found = (position[targets] >= 0) & (target_events < events)
        labels[place, position[targets[found]], 0] = True
        labels[place, position[targets[found]], 1 + target_events[found]] = True
    return Lists(features, allowed, labels[:, :, 0], labels[:, :, 1:], states.windows[rows])


def join(lists: list[Lists]) -> Lists:
    """Lists of several windows as one."""
    return Lists(*(np.concatenate(parts) for parts in zip(*(vars(part).values() for part in lists), strict=True)))


def _features(channels: Channels, states: States, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(row, [items, features] float32) of some states."""

    @tf.function(autograph=False, reduce_retracing=True)
    def compute(*inputs: tf.Tensor) -> tf.Tensor:
        return channels(channels.query(*inputs))

    for batch in (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)):
        yield from zip(batch, compute(*inputs_of(states, batch)).numpy(), strict=True)
