"""From training data to a feed: what is learned from what, so that nothing is judged by data that it has seen.

Time runs over the windows 1..n, the last of which is held out for the Evaluator, then comes now. The towers of the
windows are trained before the first of them; the ranking stage learns how far to trust each channel from windows that
the channels have not seen. `fit` does this once as of the cut, for the Evaluator, and once as of now, for serving, with
everything in it.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from schema.errors import InputError
from trainer import devices
from trainer.channels import Channels, Crowd, embed_catalog
from trainer.collaborative import cosine_neighbours, ease_neighbours, interaction_matrix
from trainer.contents import Content, TrainedImages
from trainer.data import Catalog, Pairs, States
from trainer.feed import Feed, Order
from trainer.metrics import ndcg_at_k
from trainer.ranker import Lists, listwise_loss, moments_of, train_ranker
from trainer.text_encoder import open_encoder
from trainer.text_tuning import FROZEN, TunedTexts
from trainer.tower_training import train_towers
from trainer.two_tower import TwoTower
from trainer.weights import (
    CUT,
    NOW,
    WINDOWS,
    Arrays,
    Vocabulary,
    order_arrays,
    order_from,
    set_tower_arrays,
    tower_arrays,
    until_of,
)

progress = logging.getLogger("homefeed.progress")
_BATCH = 32  # states whose features are computed at once
_FIRST_STAGE = 512  # states, and items of each, that the first stage's weights are learned from


FRESH, WARM, REINDEX = "fresh", "warm", "reindex"  # the configuration's `model.start`


@dataclass(frozen=True)
class TrainingData:
    """What `run_fn` reads.

    Attributes:
      catalog: the items.
      pairs: of the train and the late split.
      windows: states of all windows; the last is the time that is held out.
      users: states as of now.
      batches: window -> epoch -> the training examples from before that window's start.
      vocabulary: the names of users, events, categories and items.
      earlier: what an earlier training has left, by `weights.load`; empty where this one starts from nothing.
    """

    catalog: Catalog
    pairs: Pairs
    windows: States
    users: States
    batches: Callable[[int], Callable[[int], tf.data.Dataset]]
    vocabulary: Vocabulary
    earlier: dict[str, Arrays] = field(default_factory=dict)

    @property
    def cut(self) -> int:
        """The number of the window that is held out for the Evaluator."""
        return int(self.windows.windows.max(initial=0))

    def window(self, number: int) -> States:
        """The states of a window."""
        return self.windows.take(np.flatnonzero(self.windows.windows == number))


class Fitted(NamedTuple):
    """What a training makes.

    Attributes:
      then: the feed as of the cut, for the Evaluator.
      now: the feed to serve, which is the same where there is no refit.
      weights: what the next training may start from, for `weights.save`.
    """

    then: Feed
    now: Feed
    weights: dict[str, Arrays]


def fit(data: TrainingData, settings: dict[str, Any], folder: str) -> Fitted:
    """Trains.

    Args:
      data: what to learn from.
      settings: the configuration's `model`, `ranking` and `encoder` sections, the latter with its `folder`, and
        `history_length`.
      folder: of checkpoints: a run that was killed goes on with the epoch that it was in.

    Raises:
      InputError: `model.start` asks for what an earlier model does not give.
    """
    hyper, refit = settings["ranking"], settings["model"]["refit"]
    make = _TowerMaker(data, settings, folder)
    orders = _earlier_orders(data, settings) if settings["model"]["start"] == REINDEX else _orders(data, settings, make)
    plan = [(data.cut, data.window(data.cut), CUT), (data.cut + 1, data.users, NOW)]
    feeds = []
    for number, states, name in plan if refit else plan[:1]:
        channels = _channels(data, make(number, states, name), hyper, number, states)
        feeds.append(Feed(channels, orders.get(name), hyper["candidates"], len(data.vocabulary.events)))
        if name in orders:
            make.weights[f"order_{name}"] = order_arrays(orders[name])
    return Fitted(feeds[0], feeds[-1], make.weights)


class _TowerMaker:
    """Towers as of a window's start: trained from nothing or from an earlier training's, or an earlier one's as they
    are. Keeps the weights of all that it has made."""

    def __init__(self, data: TrainingData, settings: dict[str, Any], folder: str):
        self._data, self._settings, self._folder = data, settings, folder
        self._epochs = settings["model"]["epochs"]
        self.weights: dict[str, Arrays] = {}

    def __call__(self, window: int, states: States, name: str) -> TwoTower:
        """Towers for what is before a window; `states` are those at its start. The first that are made are validated by
        them, and say how many epochs the others are trained for."""
        model, hyper = self._fresh(window, devices.strategy()), self._settings["model"]
        until = int(states.moments.min(initial=np.iinfo(np.int64).max))
        epochs, planned = self._start(model, name, until)
        if epochs:
            validation = None
            if not self.weights and name == WINDOWS:
                validation = functools.partial(validation_ndcg, model, states, len(self._data.catalog))
            used = train_towers(
                model,
                self._data.batches(window),
                hyper,
                epochs,
                f"{self._folder}/{name}",
                validation,
                self._settings["encoder"]["learning_rate"],
                planned,
            )
            self._epochs = used if validation else self._epochs
        self.weights[name] = tower_arrays(model, self._data.vocabulary, until)
        return self._alone(model, window)

    def _start(self, model: TwoTower, name: str, until: int) -> tuple[int, int]:
        """Puts in the earlier weights that may be used. Returns for how many epochs the model is to be trained, and for
        how many the learning rate's schedule is made: where validation ended the first training, the others end at the
        same place of the same schedule."""
        start, earlier = self._settings["model"]["start"], self._data.earlier.get(name)
        # A model that is judged by what its weights have seen would be judged too well.
        is_clean = earlier is not None and until_of(earlier) <= until
        if start == REINDEX and not is_clean:
            raise InputError(
                "reindex: the log ends before what the last model was trained with; give the whole log, or run anew."
                if earlier is not None
                else "reindex: the last model has no weights for this; it was trained without model.refit, or without "
                "ranking windows: run anew."
            )
        if start == FRESH or earlier is None or not is_clean:
            return self._epochs, self._settings["model"]["epochs"]
        met = model.met.numpy()
        set_tower_arrays(model, earlier, self._data.vocabulary)
        model.refresh()
        if start == REINDEX:
            return 0, 0
        model.met.assign(np.maximum(met, model.met.numpy()))
        warm = self._settings["model"]["warm_epochs"]
        return min(self._epochs, warm), warm

    def _fresh(self, window: int, strategy: tf.distribute.Strategy) -> TwoTower:
        """Fresh towers, on the devices of a strategy."""
        settings, data = self._settings, self._data
        hyper, known = settings["model"], data.pairs.before(window).items
        # What is not trained has met nothing but what the earlier weights say.
        counts = np.bincount(known[known >= 0], minlength=len(data.catalog)) * (hyper["start"] != REINDEX)
        tf.keras.utils.set_random_seed(hyper["seed"])
        with strategy.scope():
            return TwoTower(
                data.catalog,
                counts,
                users=len(data.vocabulary.users),
                events=len(data.vocabulary.events),
                history_length=settings["history_length"],
                dimensions=hyper["dimensions"],
                temperature=hyper["temperature"],
                dropout=hyper["dropout"],
                negatives=hyper["negatives"],
                seed=hyper["seed"],
                contents=self._contents(),
            )

    def _contents(self) -> list[Content]:
        """What the candidate tower reads of an item."""
        encoder, hyper, catalog = self._settings["encoder"], self._settings["model"], self._data.catalog
        found: list[Content] = []
        if hyper["text"] and encoder["mode"] == FROZEN:
            found.append(Content(catalog.text_embeddings))
        elif hyper["text"]:
            bert = open_encoder(encoder["folder"], encoder["max_tokens"], devices.precision(encoder["precision"]))
            found.append(TunedTexts(bert, catalog.texts, encoder))
        if catalog.images is not None and catalog.images.ndim == 4:
            found.append(TrainedImages(catalog.images, hyper["dimensions"]))
        elif catalog.images is not None:
            found.append(Content(catalog.images))
        return found

    def _alone(self, model: TwoTower, window: int) -> TwoTower:
        """The model as ordinary variables, where it was trained on several devices."""
        if model.distribute_strategy.num_replicas_in_sync == 1:
            return model
        alone = self._fresh(window, tf.distribute.get_strategy())
        for variable, value in zip(alone.learned().values(), model.learned().values(), strict=True):
            variable.assign(value.numpy())
        alone.refresh()
        return alone


def _orders(data: TrainingData, settings: dict[str, Any], make: _TowerMaker) -> dict[str, Order]:
    """Name of the towers -> the ranking stage that goes with them, learned from the windows; empty without any."""
    hyper, seed, refit = settings["ranking"], settings["model"]["seed"], settings["model"]["refit"]
    windows = _windows(data)
    if not windows:
        return {}
    towers = make(windows[0], data.window(windows[0]), WINDOWS)
    weights, lists = np.zeros(0, np.float32), []
    for number in [*windows, data.cut] if refit else windows:
        progress.info("ranking window %d of %d", number, data.cut)
        states = data.window(number)
        channels = _channels(data, towers, hyper, number, states)
        if not len(weights):
            weights = _first_stage(channels, states, seed, len(data.catalog))
        lists.append(_lists(channels, states, weights, hyper, data))
    orders = {CUT: Order(weights, train_ranker(_join(lists[: len(windows)]), hyper, seed))}
    if refit:
        orders[NOW] = Order(weights, train_ranker(_join(lists), hyper, seed))
    return orders


def try_towers(data: TrainingData, settings: dict[str, Any], folder: str) -> float:
    """Trains the towers of the ranking windows only. Returns their NDCG@20 in the first window.

    Raises:
      InputError: the log is too short for a window.
    """
    windows = _windows(data)
    if not windows:
        raise InputError("tuner.trials: the log is too short for ranking windows, by which trials are judged.")
    states = data.window(windows[0])
    towers = _TowerMaker(data, settings, folder)(windows[0], states, WINDOWS)
    return validation_ndcg(towers, states, len(data.catalog))


def _windows(data: TrainingData) -> list[int]:
    """The numbers of the windows that something can be learned from, ascending."""
    numbers = np.unique(data.windows.windows).tolist()
    return [w for w in numbers if w < data.cut and len(_with_targets(data.window(w)))]


def _earlier_orders(data: TrainingData, settings: dict[str, Any]) -> dict[str, Order]:
    hidden, events = settings["ranking"]["hidden"], len(data.vocabulary.events)
    found = {name: data.earlier.get(f"order_{name}") for name in (CUT, NOW)}
    return {name: order_from(arrays, events, hidden) for name, arrays in found.items() if arrays is not None}


def _channels(data: TrainingData, model: TwoTower, hyper: dict[str, Any], window: int, states: States) -> Channels:
    """The channels as of a window's start; `states` are those of all users then, as far as there are any."""
    pairs, items = data.pairs.before(window), len(data.catalog)
    progress.info("channels of %d pairs", len(pairs.items))
    matrix = interaction_matrix(pairs, len(data.vocabulary.users), items)
    first = np.full(items, np.iinfo(np.int64).max // 2)
    known = pairs.items >= 0
    np.minimum.at(first, pairs.items[known], pairs.timestamps[known])
    ease = ease_neighbours(matrix, hyper["regularisation"], hyper["neighbours"], hyper["exact_items"])
    alike = cosine_neighbours(matrix, hyper["shrinkage"], hyper["nearest_items"], hyper["neighbours"])
    # The latest users, where there are more than are compared.
    crowd = states.take(np.argsort(-states.history_times[:, 0], kind="stable")[: hyper["crowd"]])
    vectors = embed_states(model, crowd, items)
    return Channels(
        model,
        data.catalog,
        first,
        ease,
        alike,
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

    parts = [embed(*inputs_of(states, slice(s, s + 1024))).numpy() for s in range(0, len(states), 1024)]
    return np.concatenate([np.zeros((0, dimensions), np.float32), *parts])


def inputs_of(states: States, rows: slice | np.ndarray) -> tuple[tf.Tensor, ...]:
    """Users, traits, histories, events, times and moments, as `Channels.query` takes them."""
    histories = (states.histories, states.history_events, states.history_times)
    columns = (states.users, states.traits, *histories, states.moments)
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


def _lists(channels: Channels, states: States, weights: np.ndarray, hyper: dict[str, Any], data: TrainingData) -> Lists:
    """The first stage's candidates of states that have anything relevant."""
    rows = _with_targets(states, hyper["states"])
    count, events = min(hyper["candidates"], len(data.catalog)), len(data.vocabulary.events)
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
        yield from zip(batch, compute(*inputs_of(states, batch)).numpy(), strict=True)


def validation_ndcg(model: TwoTower, states: States, items: int, most: int = 2_000, k: int = 20) -> float:
    """The towers' mean NDCG@k over states that have anything relevant (a fixed sample of at most so many)."""
    rows = _with_targets(states, most)
    item_vectors = embed_catalog(model, items)
    vectors = tf.concat([item_vectors, model.popularity], axis=1)
    gains = []
    for batch in (rows[start : start + 256] for start in range(0, len(rows), 256)):
        queries = model.embed_queries(item_vectors, *inputs_of(states, batch))
        scores = tf.matmul(queries, vectors, transpose_b=True).numpy()
        for row, theirs in zip(batch, scores, strict=True):
            theirs[states.seen.row(row)] = -np.inf
            targets = np.unique(states.targets.row(row))
            best = np.argsort(-theirs, kind="stable")[:k]
            gains.append(ndcg_at_k(1 + np.flatnonzero(np.isin(best, targets)), len(targets), k))
    return float(np.mean(gains))
