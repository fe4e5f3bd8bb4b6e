"""Towers as of a moment: trained, or an earlier training's."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from schema import names
from schema.errors import InputError
from trainer import devices
from trainer.channels import embed_catalog
from trainer.contents import Content, TrainedImages
from trainer.data import States, inputs_of, with_targets
from trainer.metrics.users import rank_values
from trainer.reading import TrainingData
from trainer.text_encoder import open_encoder
from trainer.text_tuning import FROZEN, TunedTexts
from trainer.tower_training import train_towers
from trainer.towers import DAY
from trainer.two_tower import TwoTower
from trainer.weights import Arrays, set_tower_arrays, tower_arrays, until_of


class _Plan(NamedTuple):
    """How towers are to be trained.

    Attributes:
      epochs: for how many; where validation ended the first training, the others end at the same place of the same
        schedule.
      planned: for how many the learning rates' schedule is made.
      since: the moment from which on they learn, seconds since 1970 UTC.
      rate: step sizes, as a share of the configuration's.
      is_new: whether from nothing.
    """

    epochs: int
    planned: int
    since: int = 0
    rate: float = 1.0
    is_new: bool = False


class TowerMaker:
    """Towers as of a window's start: trained from nothing, or on from those of the same name that were made for a
    window before or by an earlier training, or these as they are. Keeps the weights of what it has made last by each
    name.

    Args:
      data: what to learn from.
      settings: as `fitting.fit` takes them.
      folder: of checkpoints.
      earlier: towers' name -> weights of an earlier training.
    """

    def __init__(
        self, data: TrainingData, settings: dict[str, Any], folder: str, earlier: Mapping[str, Arrays] | None = None
    ):
        self._data, self._settings, self._folder, self._earlier = data, settings, folder, earlier or {}
        self._epochs = settings["model"]["epochs"]
        self.weights: dict[str, Arrays] = {}

    def __call__(self, window: int, states: States, name: str) -> TwoTower:
        """Towers for what is before a window; `states` are those at its start. The first ranking window's that are
        trained from nothing are validated by them, and say how many epochs others are that begin so."""
        model, hyper = self._fresh(window, devices.strategy()), self._settings["model"]
        until = first_moment(states)
        plan = self._start(model, name, until)
        if plan.epochs:
            validation = None
            if plan.is_new and name == names.WINDOWS_TOWERS:
                validation = functools.partial(validation_ndcg, model, states, len(self._data.catalog))
            used = train_towers(
                model,
                self._data.batches(window, plan.since),
                plan.rate * hyper["learning_rate"],
                plan.epochs,
                # A report shows the curves of what is directly below the folder.
                f"{self._folder}/{name}/{window}" if name in self.weights else f"{self._folder}/{name}",
                validation,
                plan.rate * self._settings["encoder"]["learning_rate"],
                plan.planned,
            )
            self._epochs = used if validation else self._epochs
        self.weights[name] = tower_arrays(model, self._data.vocabulary, until)
        return self._alone(model, window)

    def _start(self, model: TwoTower, name: str, until: int) -> _Plan:
        """Puts in the earlier weights that may be used."""
        hyper, earlier = self._settings["model"], self.weights.get(name, self._earlier.get(name))
        is_clean, is_reindex = is_before(earlier, until), hyper["start"] == names.REINDEX
        if is_reindex and not is_clean:
            raise InputError(
                "reindex: the log ends before what the last model was trained with; give the whole log, or run anew."
                if earlier is not None
                else "reindex: the last model has no weights for this; it was trained without model.refit, or without "
                "ranking windows: run anew."
            )
        if earlier is None or not is_clean:
            return _Plan(self._epochs, hyper["epochs"], is_new=True)
        met = model.met.numpy()
        set_tower_arrays(model, earlier, self._data.vocabulary)
        model.refresh()
        if is_reindex:
            return _Plan(0, 0)
        model.met.assign(np.maximum(met, model.met.numpy()))
        since = until_of(earlier) - int(hyper["warm_days"] * DAY)
        # What lies between windows is too much for a day's small steps; after whole ones they are as good as any.
        rate = 1.0 if name in self.weights else hyper["warm_rate"]
        return _Plan(hyper["warm_epochs"], hyper["warm_epochs"], since, rate)

    def _fresh(self, window: int, strategy: tf.distribute.Strategy) -> TwoTower:
        """Fresh towers, on the devices of a strategy."""
        settings, data = self._settings, self._data
        hyper, known = settings["model"], data.pairs.before(window).items
        # What is not trained has met nothing but what the earlier weights say.
        counts = np.bincount(known[known >= 0], minlength=len(data.catalog)) * (hyper["start"] != names.REINDEX)
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


def first_moment(states: States) -> int:
    """The earliest moment of states, in seconds since 1970."""
    return int(states.moments.min(initial=np.iinfo(np.int64).max))


def is_before(earlier: Arrays | None, moment: int) -> bool:
    """Whether there are earlier weights that have seen nothing from a moment on: a model that is judged by what its
    weights have seen would be judged too well."""
    return earlier is not None and until_of(earlier) <= moment


def validation_ndcg(model: TwoTower, states: States, items: int, most: int = 2_000, k: int = 20) -> float:
    """The towers' mean NDCG@k over states that have anything relevant (a fixed sample of at most so many)."""
    rows = with_targets(states, most)
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
            ranks = 1 + np.flatnonzero(np.isin(best, targets))
            gains.append(rank_values(ranks, len(targets), np.array([k]))[names.RANKED_METRICS.index("ndcg"), 0])
    return float(np.mean(gains))
