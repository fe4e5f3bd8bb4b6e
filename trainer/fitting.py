"""From training data to a feed: what is learned from what, so that nothing is judged by data that it has seen.

Time runs over the windows 1..n, the last of which is held out for the Evaluator, then comes now. The towers of the
windows are trained before the first of them; the ranking stage learns how far to trust each channel from windows that
the channels have not seen. `fit` does this once as of the cut, for the Evaluator, and once as of now, for serving, with
everything in it.
"""

import logging
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from schema import names
from schema.errors import InputError
from trainer.candidates import candidate_lists, join, learn_first_stage
from trainer.channels import NEVER, Channels, Crowd, embed_catalog
from trainer.collaborative import interaction_matrix, learn_filters
from trainer.data import States, inputs_of, with_targets
from trainer.feed import Feed, Order
from trainer.ranker import train_ranker
from trainer.reading import TrainingData
from trainer.retrieval import Retriever
from trainer.tower_maker import TowerMaker, first_moment, is_before, validation_ndcg
from trainer.two_tower import TwoTower
from trainer.weights import OTHER_RANKING, Arrays, keeps_order, order_arrays, order_from, order_of, towers_of

progress = logging.getLogger("homefeed.progress")


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
      settings: the configuration's `model`, `ranking`, `retrieval` and `encoder` sections, the latter with its
        `folder`, and `history_length`.
      folder: of checkpoints: a run that was killed goes on with the epoch that it was in.

    Raises:
      InputError: `model.start` asks for what an earlier model does not give.
    """
    hyper, model = settings["ranking"], settings["model"]
    make = TowerMaker(data, settings, folder)
    texts = Retriever(tf.Variable(data.catalog.text_embeddings, trainable=False), settings["retrieval"])
    ends = {names.CUT_TOWERS: (data.cut, data.window(data.cut)), names.NOW_TOWERS: (data.cut + 1, data.users)}
    plan = [(*ends[name], name) for name in towers_of(model)]
    may_keep, is_reindex = keeps_order(data.earlier, model), model["start"] == names.REINDEX
    orders = _earlier_orders(data, settings) if may_keep else {}
    # What the earlier towers have not seen, the earlier ranking stage has not, which was learned from windows before.
    is_kept = is_reindex or (
        may_keep and all(is_before(data.earlier.get(name), first_moment(states)) for _, states, name in plan)
    )
    if not is_kept:
        orders = _orders(data, settings, make, texts)
    elif names.WINDOWS_TOWERS in data.earlier:  # for a later training that learns it anew
        make.weights[names.WINDOWS_TOWERS] = data.earlier[names.WINDOWS_TOWERS]
    feeds = []
    for number, states, name in plan:
        channels = _channels(data, make(number, states, name), texts, settings, number, states)
        if is_kept and name in orders and len(orders[name].weights) != len(channels.names_of()):
            raise InputError(OTHER_RANKING)
        feeds.append(Feed(channels, orders.get(name), hyper["candidates"], len(data.vocabulary.events)))
        if name in orders:
            make.weights[order_of(name)] = order_arrays(orders[name])
    return Fitted(feeds[0], feeds[-1], make.weights)


def _orders(data: TrainingData, settings: dict[str, Any], make: TowerMaker, texts: Retriever) -> dict[str, Order]:
    """Name of the towers -> the ranking stage that goes with them, learned from the windows; empty without any."""
    hyper, seed, refit = settings["ranking"], settings["model"]["seed"], settings["model"]["refit"]
    windows, events = _windows(data), len(data.vocabulary.events)
    if not windows:
        return {}
    towers = make(windows[0], data.window(windows[0]), names.WINDOWS_TOWERS)
    weights, lists = np.zeros(0, np.float32), []
    for number in [*windows, data.cut] if refit else windows:
        progress.info("ranking window %d of %d", number, data.cut)
        states = data.window(number)
        channels = _channels(data, towers, texts, settings, number, states)
        offered = offered_in(data, number)
        if not len(weights):
            weights = learn_first_stage(channels, states, offered, seed)
        lists.append(candidate_lists(channels, states, offered, weights, hyper, events))
    orders = {names.CUT_TOWERS: Order(weights, train_ranker(join(lists[: len(windows)]), hyper, seed))}
    if refit:
        orders[names.NOW_TOWERS] = Order(weights, train_ranker(join(lists), hyper, seed))
    return orders


def offered_in(data: TrainingData, window: int) -> np.ndarray:
    """[items] bool: what was on offer in a window, as far as the log tells: all that somebody had by its end, and what
    nobody had to this day. An item that comes later is taken not to have been there: to call it refused would teach
    that what is new is never wanted."""
    by_its_end, known = (data.pairs.before(w).items for w in (window + 1, max(window + 1, data.cut)))
    offered = np.ones(len(data.catalog), bool)
    offered[known[known >= 0]] = False
    offered[by_its_end[by_its_end >= 0]] = True
    return offered


def try_towers(data: TrainingData, settings: dict[str, Any], folder: str) -> float:
    """Trains the towers of the ranking windows only. Returns their NDCG@20 in the first window.

    Raises:
      InputError: the log is too short for a window.
    """
    windows = _windows(data)
    if not windows:
        raise InputError("tuner.trials: the log is too short for ranking windows, by which trials are judged.")
    states = data.window(windows[0])
    towers = TowerMaker(data, settings, folder)(windows[0], states, names.WINDOWS_TOWERS)
    return validation_ndcg(towers, states, len(data.catalog))


def _windows(data: TrainingData) -> list[int]:
    """The numbers of the windows that something can be learned from, ascending."""
    numbers = np.unique(data.windows.windows).tolist()
    return [w for w in numbers if w < data.cut and len(with_targets(data.window(w)))]


def _earlier_orders(data: TrainingData, settings: dict[str, Any]) -> dict[str, Order]:
    hidden, events = settings["ranking"]["hidden"], len(data.vocabulary.events)
    found = {name: data.earlier.get(order_of(name)) for name in (names.CUT_TOWERS, names.NOW_TOWERS)}
    return {name: order_from(arrays, events, hidden) for name, arrays in found.items() if arrays is not None}


def _channels(
    data: TrainingData, model: TwoTower, texts: Retriever, settings: dict[str, Any], window: int, states: States
) -> Channels:
    """The channels as of a window's start; `states` are those of all users then, as far as there are any."""
    hyper = settings["ranking"]
    pairs, items = data.pairs.before(window), len(data.catalog)
    progress.info("channels of %d pairs", len(pairs.items))
    matrix = interaction_matrix(pairs, len(data.vocabulary.users), items)
    first = np.full(items, NEVER)
    known = pairs.items >= 0
    np.minimum.at(first, pairs.items[known], pairs.timestamps[known])
    filters = learn_filters(matrix, hyper, settings["model"]["seed"])
    # The latest users, where there are more than are compared.
    crowd = states.take(np.argsort(-states.history_times[:, 0], kind="stable")[: hyper["crowd"]])
    vectors = embed_states(model, crowd, items)
    return Channels(
        model,
        data.catalog,
        first,
        filters,
        Crowd(crowd.users, vectors, crowd.histories, crowd.history_times),
        hyper["nearest_users"],
        tuple(name for name, is_on in hyper["channels"].items() if is_on),
        texts,
        settings["retrieval"],
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
