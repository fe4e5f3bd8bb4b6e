"""What the ranking stage learns from: the first stage's weights, and its candidates of states whose future is known."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.channels import Channels
from trainer.data import States, inputs_of, with_targets
from trainer.ranker import Lists, listwise_loss, moments_of
from trainer.tracing import of_any_rows

_BATCH = 32  # states whose features are computed at once
_FIRST_STAGE = 512  # states, and items of each, that the first stage's weights are learned from


def learn_first_stage(channels: Channels, states: States, offered: np.ndarray, seed: int) -> np.ndarray:
    """[features] float32: weights of the channels' features by listwise softmax over a window's relevant items and
    random ones of what was offered ([items] bool)."""
    random, catalogue = np.random.default_rng(seed), len(offered)
    items = min(_FIRST_STAGE, catalogue)
    rows = with_targets(states, _FIRST_STAGE)
    drawn = np.stack([random.choice(catalogue, items, replace=False) for _ in rows])
    counts = np.zeros(len(rows), int)
    for place, row in enumerate(rows):
        relevant = np.unique(states.targets.row(row))
        relevant = relevant[relevant >= 0][:items]
        counts[place] = len(relevant)
        drawn[place, : len(relevant)] = relevant
    lists = []
    found = _features(channels, states, rows, drawn)
    for row, some, count, (theirs, values) in zip(rows, drawn, counts, found, strict=True):
        is_relevant = np.arange(items) < count
        is_free = is_relevant | (offered[some] & ~np.isin(some, np.concatenate([some[:count], states.seen.row(row)])))
        lists.append((values[np.searchsorted(theirs, some)], is_free, is_relevant))
    features, allowed, relevant = map(np.stack, zip(*lists, strict=True))
    flat = features[allowed]
    mean, deviation = moments_of(flat)
    weights = tf.Variable(tf.zeros([features.shape[2]]))
    optimizer = tf.keras.optimizers.Adam(0.05)
    standard = (features - mean) / deviation

    @tf.function(autograph=False, input_signature=of_any_rows((standard, allowed, relevant)))
    def step(part: tf.Tensor, allowed: tf.Tensor, relevant: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = listwise_loss(tf.linalg.matvec(part, weights), allowed, tf.cast(relevant, tf.float32))
        optimizer.apply_gradients([(tape.gradient(loss, weights), weights)])

    for _ in range(10):
        for rows in np.array_split(random.permutation(len(lists)), max(1, len(lists) // 64)):
            step(standard[rows], allowed[rows], relevant[rows])
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
    for place, (row, (theirs, values)) in enumerate(zip(rows, _features(channels, states, rows), strict=True)):
        first = values @ weights
        first[np.isin(theirs, states.seen.row(row)) | ~offered[theirs]] = -np.inf
        chosen = np.argsort(-first, kind="stable")[:count]
        best = slice(len(chosen))
        features[place, best], allowed[place, best] = values[chosen], first[chosen] > -np.inf
        targets, target_events = states.targets.row(row), states.target_events.row(row)
        position = np.full(catalogue + 1, -1)  # the last is that of what is no item
        position[theirs[chosen]] = np.arange(len(chosen))
        found = (position[targets] >= 0) & (target_events < events)
        labels[place, position[targets[found]], 0] = True
        labels[place, position[targets[found]], 1 + target_events[found]] = True
    return Lists(features, allowed, labels[:, :, 0], labels[:, :, 1:], states.windows[rows])


def join(lists: list[Lists]) -> Lists:
    """Lists of several windows as one."""
    return Lists(*(np.concatenate(parts) for parts in zip(*(vars(part).values() for part in lists), strict=True)))


def _features(
    channels: Channels, states: States, rows: np.ndarray, more: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each of some states what is ranked for it, items ascending ([n]) and their features ([n, features] float32),
    with `more` ([rows, any] items) among it."""
    more = np.zeros((len(rows), 0), np.int64) if more is None else more

    @tf.function(autograph=False, input_signature=of_any_rows((more, *inputs_of(states, rows[:0]))))
    def compute(wanted: tf.Tensor, *inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        query = channels.query(*inputs)
        among = channels.among(query, wanted)
        return among.listed(tf.shape(wanted)[0]), channels(query, among)

    for start in range(0, len(rows), _BATCH):
        part = slice(start, start + _BATCH)
        for items, features in zip(*compute(more[part], *inputs_of(states, rows[part])), strict=True):
            is_there = items.numpy() >= 0
            yield items.numpy()[is_there], features.numpy()[is_there]
