"""From training data to a feed: what is learned from what, so that nothing is judged by data that it has seen.

Time runs over the windows 1..n, the last of which is held out for the Evaluator, then comes now. The towers of the
windows are trained before the first of them; the ranking stage learns how far to trust each channel from windows that
the channels have not seen. `fit` does this once as of the cut, for the Evaluator, and once as of now, for serving, with
everything in it. A training that goes on from an earlier one goes on with all of it: the windows' towers have come to
the last window before the cut, which is the one that is new to them.
"""

import logging
from collections.abc import Mapping, Sequence
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
from trainer.ranker import Lists, train_ranker
from trainer.reading import TrainingData
from trainer.retrieval import Retriever
from trainer.tower_maker import TowerMaker, first_moment, is_before, validation_ndcg
from trainer.tracing import of_any_rows
from trainer.two_tower import TwoTower
from trainer.weights import (
    FIRST_STAGE,
    OTHER_RANKING,
    Arrays,
    fresh_order_of,
    go_half_way,
    goes_on,
    item_factors_of,
    order_arrays,
    order_from,
    order_of,
    towers_of,
    with_item_factors,
)

progress = logging.getLogger("homefeed.progress")
_GOING_ON = 4  # factors of a log that has grown are near those before: so manieth part of the rounds gets as close


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
    hyper, model, events = settings["ranking"], settings["model"], len(data.vocabulary.events)
    ends = {names.CUT_TOWERS: (data.cut, data.window(data.cut)), names.NOW_TOWERS: (data.cut + 1, data.users)}
    plan = [(*ends[name], name) for name in towers_of(model)]
    earlier = _earlier(data, model, {name: states for _, states, name in plan})
    make, made = TowerMaker(data, settings, folder, earlier), dict[str, TwoTower]()
    texts = Retriever(tf.Variable(data.catalog.text_embeddings, trainable=False), settings["retrieval"])
    numbers = np.unique(data.windows.windows)
    windows = [(*window, names.WINDOWS_TOWERS) for window in _windows(data, model, earlier)]
    order_before = earlier.get(order_of(names.CUT_TOWERS), {})
    weights, lists, feeds = order_before.get(FIRST_STAGE), list[Lists](), list[Feed]()
    factors: dict[str, np.ndarray] = {}  # those of the items, of each towers' last window
    for number, states, name in [*windows, *plan]:
        if name not in made:
            made[name] = make(number, states, name)
        start, rounds = _item_factors(factors, earlier, name, data.vocabulary.items, settings)
        channels = _channels(data, made[name], texts, settings, number, states, start, rounds)
        if name not in factors:
            make.weights[name] = with_item_factors(make.weights[name], channels.item_factors)
        factors[name] = channels.item_factors
        if weights is not None and len(weights) != len(channels.names_of()):
            raise InputError(OTHER_RANKING)
        if name != names.WINDOWS_TOWERS:
            order = _order(lists, weights, settings, earlier, name, int((numbers < number).sum()), events)
            feeds.append(Feed(channels, order, hyper["candidates"], events))
            if order is not None:
                make.weights[order_of(name)] = order_arrays(order)
                make.weights[fresh_order_of(name)] = earlier.get(fresh_order_of(name), make.weights[order_of(name)])
        if windows and number < plan[-1][0]:
            progress.info("ranking window %d of %d", number, data.cut)
            offered = offered_in(data, number)
            if weights is None:
                weights = learn_first_stage(channels, states, offered, model["seed"])
            lists.append(candidate_lists(channels, states, offered, weights, hyper, events))
    if len(windows) > 1 and _are_times(data.windows):
        make(*windows[-1])
        last = names.WINDOWS_TOWERS
        make.weights[last] = with_item_factors(make.weights[last], factors[last])
    # Where there was no window that they have not seen, the windows' towers wait.
    waiting = {name: arrays for name, arrays in earlier.items() if name == names.WINDOWS_TOWERS}
    return Fitted(feeds[0], feeds[-1], waiting | make.weights)


def _are_times(windows: States) -> bool:
    """Whether each window begins at one moment for all."""
    return len(np.unique(np.stack([windows.windows, windows.moments]), axis=1).T) == len(np.unique(windows.windows))


def _earlier(data: TrainingData, model: Mapping[str, Any], ends: Mapping[str, States]) -> dict[str, Arrays]:
    """What this training goes on from; empty where it begins from nothing: it is to, the earlier training lacks
    something, or has seen what is to be judged now. What its towers have not seen its ranking stage has not, which was
    learned from windows before."""
    if not goes_on(data.earlier, model):
        return {}
    is_clean = all(is_before(data.earlier[name], first_moment(states)) for name, states in ends.items())
    return data.earlier if is_clean or model["start"] == names.REINDEX else {}


def _order(
    lists: list[Lists],
    weights: np.ndarray | None,
    settings: dict[str, Any],
    earlier: Mapping[str, Arrays],
    name: str,
    windows: int,
    events: int,
) -> Order | None:
    """The ranking stage that goes with towers, learned from the lists of those windows, of so many, that can be learned
    from; as it was where there are none, and None where there was none.

    One that goes on begins as the last training from nothing left it, not as the day before did: what it would see day
    after day it would come to know by heart. It takes as many steps as one that learns from all windows, since fewer
    hardly move it, and stops half the way that they lead.
    """
    hyper, seed = settings["ranking"], settings["model"]["seed"]
    if weights is None or not lists:
        return order_from(earlier[order_of(name)], events, hyper["hidden"]) if order_of(name) in earlier else None
    fresh = earlier.get(fresh_order_of(name))
    known = None if fresh is None else order_from(fresh, events, hyper["hidden"]).ranker
    ranker = train_ranker(join(lists), hyper, hyper["epochs"] * windows // len(lists), seed, known)
    if fresh is not None:
        go_half_way(ranker, fresh)
    return Order(weights, ranker)


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
    windows = _windows(data, settings["model"], {})
    if not windows:
        raise InputError("tuner.trials: the log is too short for ranking windows, by which trials are judged.")
    number, states = windows[0]
    towers = TowerMaker(data, settings, folder)(number, states, names.WINDOWS_TOWERS)
    return validation_ndcg(towers, states, len(data.catalog))


def _windows(data: TrainingData, model: Mapping[str, Any], earlier: Mapping[str, Arrays]) -> list[tuple[int, States]]:
    """The windows that something can be learned from, their numbers ascending, with their states: none before what the
    earlier training has seen, and none where nothing is trained."""
    if model["start"] == names.REINDEX:
        return []
    seen = earlier.get(names.WINDOWS_TOWERS)
    windows = [(w, data.window(w)) for w in np.unique(data.windows.windows).tolist() if w < data.cut]
    is_open = [seen is None or is_before(seen, first_moment(states)) for _, states in windows]
    return [window for window, opens in zip(windows, is_open, strict=True) if opens and len(with_targets(window[1]))]


def _item_factors(
    known: dict[str, np.ndarray],
    earlier: Mapping[str, Arrays],
    name: str,
    items: Sequence[bytes],
    settings: Mapping[str, Any],
) -> tuple[np.ndarray | None, int]:
    """The items' factors ([items, n]) to go on from, of a part of the log that is learned from now, and in how many
    rounds: those beside the same towers, by an earlier window or the earlier training, else an earlier window's (the
    last of `known`); None where there are none yet."""
    rounds = settings["ranking"]["factor_rounds"]
    fewer = -(-rounds // _GOING_ON)
    if name in known:
        return known[name], fewer
    found = item_factors_of(earlier.get(name, {}), items, settings["ranking"]["factors"])
    if found is not None:
        return found, 0 if settings["model"]["start"] == names.REINDEX else fewer
    return next(((last, fewer) for last in reversed(known.values())), (None, rounds))


def _channels(
    data: TrainingData,
    model: TwoTower,
    texts: Retriever,
    settings: dict[str, Any],
    window: int,
    states: States,
    start: np.ndarray | None,
    rounds: int,
) -> Channels:
    """The channels as of a window's start; `states` are those of all users then, as far as there are any; `start` and
    `rounds` as of `_item_factors`."""
    hyper = settings["ranking"]
    pairs, items = data.pairs.before(window), len(data.catalog)
    progress.info("channels of %d pairs", len(pairs.items))
    matrix = interaction_matrix(pairs, len(data.vocabulary.users), items)
    first = np.full(items, NEVER)
    known = pairs.items >= 0
    np.minimum.at(first, pairs.items[known], pairs.timestamps[known])
    filters = learn_filters(matrix, hyper, settings["model"]["seed"], rounds, start)
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

    @tf.function(autograph=False, input_signature=of_any_rows(inputs_of(states, slice(0))))
    def embed(*inputs: tf.Tensor) -> tf.Tensor:
        vectors = model.embed_queries(item_vectors, *inputs)
        return tf.math.l2_normalize(vectors[:, :dimensions], axis=1)

    parts = [embed(*inputs_of(states, slice(s, s + 1024))).numpy() for s in range(0, len(states), 1024)]
    return np.concatenate([np.zeros((0, dimensions), np.float32), *parts])
