"""From training data to a feed: what is learned from what, so that nothing is judged by data that it has seen.

Time runs over the windows 1..n, the last of which is held out for the Evaluator, then comes now. The towers of the
windows are trained before the first of them; the ranking stage learns how far to trust each channel from windows that
the channels have not seen. `fit` does this once as of the cut, for the Evaluator, and once as of now, for serving, with
everything in it.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.channels import Channels, Crowd, embed_catalog
from trainer.collaborative import interaction_matrix, item_neighbours
from trainer.data import Catalog, Pairs, States
from trainer.feed import Feed, Order
from trainer.metrics import ndcg_at_k
from trainer.ranker import Lists, listwise_loss, train_ranker
from trainer.tower_training import train_towers
from trainer.two_tower import TwoTower

progress = logging.getLogger("homefeed.progress")
_BATCH = 32  # states whose features are computed at once
_FIRST_STAGE = 512  # states, and items of each, that the first stage's weights are learned from


@dataclass(frozen=True)
class TrainingData:
    """What `run_fn` reads.

    Attributes:
      catalog: the items.
      pairs: of the train and the late split.
      windows: states of all windows; the last is the time that is held out.
      users: states as of now.
      batches: window -> epoch -> the training examples from before that window's start.
      vocabulary: sizes of the vocabularies of users and events.
    """

    catalog: Catalog
    pairs: Pairs
    windows: States
    users: States
    batches: Callable[[int], Callable[[int], tf.data.Dataset]]
    vocabulary: tuple[int, int]

    @property
    def cut(self) -> int:
        """The number of the window that is held out for the Evaluator."""
        return int(self.windows.windows.max(initial=0))

    def window(self, number: int) -> States:
        """The states of a window."""
        return self.windows.take(np.flatnonzero(self.windows.windows == number))


def fit(data: TrainingData, settings: dict[str, Any], folder: str) -> tuple[Feed, Feed]:
    """Trains. Returns the feed as of the cut and the feed to serve, which is the same where there is no refit.

    Args:
      data: what to learn from.
      settings: the configuration's `model` and `ranking` sections, and `history_length`.
      folder: of checkpoints: a run that was killed goes on with the epoch that it was in.
    """
    hyper, cut = settings["ranking"], data.cut
    seed, refit = settings["model"]["seed"], settings["model"]["refit"]
    order_then = order_now = None
    epochs = settings["model"]["epochs"]
    windows = [int(w) for w in np.unique(data.windows.windows) if w < cut and len(_with_targets(data.window(w)))]
    if windows:
        validation = data.window(windows[0])
        towers = _towers(data, settings, windows[0])
        epochs = train_towers(
            towers,
            data.batches(windows[0]),
            settings["model"],
            epochs,
            f"{folder}/windows",
            lambda: validation_ndcg(towers, validation, len(data.catalog)),
        )
        weights, lists = np.zeros(0, np.float32), []
        for number in [*windows, cut] if refit else windows:
            progress.info("ranking window %d of %d", number, cut)
            states = data.window(number)
            channels = _channels(data, towers, hyper, number, states)
            if not len(weights):
                weights = _first_stage(channels, states, seed, len(data.catalog))
            lists.append(_lists(channels, states, weights, hyper, data))
        order_then = Order(weights, train_ranker(_join(lists[: len(windows)]), hyper, seed))
        order_now = Order(weights, train_ranker(_join(lists), hyper, seed)) if refit else None
    feeds = []
    plan = [(cut, data.window(cut), order_then, "cut"), (cut + 1, data.users, order_now, "now")]
    for number, states, order, name in plan if refit else plan[:1]:
        towers = _towers(data, settings, number)
        train_towers(towers, data.batches(number), settings["model"], epochs, f"{folder}/{name}")
        feeds.append(
            Feed(_channels(data, towers, hyper, number, states), order, hyper["candidates"], data.vocabulary[1])
        )
    return feeds[0], feeds[-1]


def _towers(data: TrainingData, settings: dict[str, Any], window: int) -> TwoTower:
    """Fresh towers for what is before a window."""
    hyper, known = settings["model"], data.pairs.before(window).items
    tf.keras.utils.set_random_seed(hyper["seed"])
    return TwoTower(
        data.catalog,
        np.bincount(known[known >= 0], minlength=len(data.catalog)),
        users=data.vocabulary[0],
        events=data.vocabulary[1],
        history_length=settings["history_length"],
        dimensions=hyper["dimensions"],
        temperature=hyper["temperature"],
        dropout=hyper["dropout"],
        negatives=hyper["negatives"],
        seed=hyper["seed"],
        text=hyper["text"],
    )


def _channels(data: TrainingData, model: TwoTower, hyper: dict[str, Any], window: int, states: States) -> Channels:
    """The channels as of a window's start; `states` are those of all users then, as far as there are any."""
    pairs, items = data.pairs.before(window), len(data.catalog)
    progress.info("channels of %d pairs", len(pairs.items))
    matrix = interaction_matrix(pairs, data.vocabulary[0], items)
    first = np.full(items, np.iinfo(np.int64).max // 2)
    known = pairs.items >= 0
    np.minimum.at(first, pairs.items[known], pairs.timestamps[known])
    neighbours = item_neighbours(matrix, hyper["regularisation"], hyper["neighbours"], hyper["exact_items"])
    # The latest users, where there are more than are compared.
    crowd = states.take(np.argsort(-states.history_times[:, 0], kind="stable")[: hyper["crowd"]])
    vectors = embed_states(model, crowd, items)
    return Channels(
        model,
        data.catalog,
        first,
        neighbours,
        Crowd(crowd.users, vectors, crowd.histories, crowd.history_times),
        hyper["nearest_users"],
        tuple(name for name, is_on in hyper["channels"].items() if is_on),
    )


def embed_states(model: TwoTower, states: States, items: int) -> np.ndarray:
    """[states, dimensions] float32: the query tower's unit vectors."""
    item_vectors = embed_catalog(model, items)
    dimensions = item_vectors.shape[1]

    @tf.function(autograph=False, reduce_retracing=True)
    def embed(*inputs: tf.Tensor) -> tf.Tensor:
        vectors = model.embed_queries(item_vectors, *inputs)
        return tf.math.l2_normalize(vectors[:, :dimensions], axis=1)

    parts = [embed(*_inputs(states, slice(s, s + 1024))).numpy() for s in range(0, len(states), 1024)]
    return np.concatenate([np.zeros((0, dimensions), np.float32), *parts])


def _inputs(states: States, rows: slice | np.ndarray) -> tuple[tf.Tensor, ...]:
    """Users, histories, events, times and moments, as `Channels.query` takes them."""
    columns = (states.users, states.histories, states.history_events, states.history_times, states.moments)
    return tuple(tf.constant(column[rows], tf.int64) for column in columns)


def _first_stage(channels: Channels, states: States, seed: int, catalogue: int) -> np.ndarray:
    """Weights of the channels' features by listwise softmax over a window's relevant and random items."""
    random = np.random.default_rng(seed)
    items = min(_FIRST_STAGE, catalogue)
    lists = []
    for row, values in _features(channels, states, _with_targets(states, _FIRST_STAGE)):
        relevant = np.unique(states.targets.row(row))
        relevant = relevant[relevant >= 0][:items]
        drawn = random.choice(catalogue, items, replace=False)
        drawn[: len(relevant)] = relevant
        is_relevant = np.arange(items) < len(relevant)
        is_free = is_relevant | ~np.isin(drawn, np.concatenate([relevant, states.seen.row(row)]))
        lists.append((values[drawn], is_free, is_relevant))
    features, allowed, relevant = map(np.stack, zip(*lists, strict=True))
    flat = features[allowed]
    mean, deviation = flat.mean(axis=0), flat.std(axis=0) + 1e-6
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


def _lists(channels: Channels, states: States, weights: np.ndarray, hyper: dict[str, Any], data: TrainingData) -> Lists:
    """The first stage's candidates of states that have anything relevant."""
    rows = _with_targets(states, hyper["states"])
    count, events = min(hyper["candidates"], len(data.catalog)), data.vocabulary[1]
    features = np.zeros((len(rows), count, len(weights)), np.float16)
    allowed = np.zeros((len(rows), count), bool)
    labels = np.zeros((len(rows), count, events + 1), bool)
    for place, (row, values) in enumerate(_features(channels, states, rows)):
        first = values @ weights
        first[states.seen.row(row)] = -np.inf
        chosen = np.argpartition(-first, count - 1)[:count]
        features[place], allowed[place] = values[chosen], first[chosen] > -np.inf
        targets, target_events = states.targets.row(row), states.target_events.row(row)
        position = np.full(len(data.catalog) + 1, -1)  # the last is that of what is no item
        position[chosen] = np.arange(count)
        found = (position[targets] >= 0) & (target_events < events)
        labels[place, position[targets[found]], 0] = True
        labels[place, position[targets[found]], 1 + target_events[found]] = True
    return Lists(features, allowed, labels[:, :, 0], labels[:, :, 1:], states.windows[rows])


def _join(lists: list[Lists]) -> Lists:
    return Lists(*(np.concatenate(parts) for parts in zip(*(vars(part).values() for part in lists), strict=True)))


def _with_targets(states: States, most: int | None = None) -> np.ndarray:
    """Rows of states that have anything relevant, or a fixed sample of so many."""
    rows = np.flatnonzero(np.diff(states.targets.splits))
    if most is None or len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def _features(channels: Channels, states: States, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(row, [items, features] float32) of some states."""

    @tf.function(autograph=False, reduce_retracing=True)
    def compute(*inputs: tf.Tensor) -> tf.Tensor:
        return channels(channels.query(*inputs))

    for batch in (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)):
        yield from zip(batch, compute(*_inputs(states, batch)).numpy(), strict=True)


def validation_ndcg(model: TwoTower, states: States, items: int, most: int = 2_000, k: int = 20) -> float:
    """The towers' mean NDCG@k over states that have anything relevant (a fixed sample of at most so many)."""
    rows = _with_targets(states, most)
    item_vectors = embed_catalog(model, items)
    vectors = tf.concat([item_vectors, model.popularity], axis=1)
    gains = []
    for batch in (rows[start : start + 256] for start in range(0, len(rows), 256)):
        queries = model.embed_queries(item_vectors, *_inputs(states, batch))
        scores = tf.matmul(queries, vectors, transpose_b=True).numpy()
        for row, theirs in zip(batch, scores, strict=True):
            theirs[states.seen.row(row)] = -np.inf
            targets = np.unique(states.targets.row(row))
            best = np.argsort(-theirs, kind="stable")[:k]
            gains.append(ndcg_at_k(1 + np.flatnonzero(np.isin(best, targets)), len(targets), k))
    return float(np.mean(gains))
