"""What one training leaves to the next: the towers' weights by the names of users, items and categories, since their
numbers change with every log and catalogue, and what the ranking stage has learned."""

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from schema import names
from schema.errors import InputError
from trainer.feed import Order
from trainer.ranker import Ranker
from trainer.two_tower import TwoTower

Arrays = dict[str, np.ndarray]
OTHER_RANKING = (
    "the configuration's channels or ranking section have changed since the model that is to be continued; run once "
    "with model.start=fresh."
)
_UNTIL, _ITEM_FACTORS = "until", "item_factors"
FIRST_STAGE = "weights"  # of `order_arrays`


class Vocabulary(NamedTuple):
    """Names in the order of their index: bytes."""

    users: Sequence[bytes]
    events: Sequence[bytes]
    categories: Sequence[bytes]
    items: Sequence[bytes]


def tower_arrays(model: TwoTower, vocabulary: Vocabulary, until: int) -> Arrays:
    """Everything that training has changed in a model.

    Args:
      model: trained towers.
      vocabulary: what its tables' rows are of.
      until: seconds since 1970 UTC; the training has seen nothing from then on.
    """
    named = {name: np.array(values, np.bytes_) for name, values in vocabulary._asdict().items()}
    learned = {name: variable.numpy() for name, variable in model.learned().items()}
    return {**named, **learned, _UNTIL: np.array(until)}


def set_tower_arrays(model: TwoTower, arrays: Arrays, vocabulary: Vocabulary) -> None:
    """Gives a fresh model the weights of `tower_arrays`, each row of a table to whom it was of; a user, an item or a
    category that has none keeps the fresh one.

    Raises:
      InputError: the weights are of another kind of model.
    """
    if arrays["events"].tolist() != list(vocabulary.events):
        raise InputError("the configuration's events have changed since the model that is to be continued; train anew.")
    tables = model.tables()
    for name, variable in model.learned().items():
        value, table = arrays.get(name), tables.get(name)
        if value is not None and table is not None:
            value = _moved(value, variable.numpy(), arrays[table].tolist(), getattr(vocabulary, table))
        if value is None or value.shape != tuple(variable.shape):
            raise InputError(
                f"the model that is to be continued has no {name} of shape {tuple(variable.shape)}: the "
                "configuration's model, encoder or split section has changed since; train anew."
            )
        variable.assign(value)


def _moved(old: np.ndarray, fresh: np.ndarray, old_names: list[bytes], names: Sequence[bytes]) -> np.ndarray:
    """Rows of a table in another order; what follows the named rows, that of everybody else, comes last again."""
    if old.shape[1:] != fresh.shape[1:]:
        return old
    place = {name: row for row, name in enumerate(old_names)}
    rows = np.array([place.get(name, -1) for name in names], np.int64)
    moved = fresh.copy()
    moved[: len(rows)][rows >= 0] = old[rows[rows >= 0]]
    moved[len(rows) :] = old[len(old_names) :]
    return moved


def with_item_factors(arrays: Arrays, factors: np.ndarray) -> Arrays:
    """`tower_arrays` with what the matrix factorisation beside the towers has learned of each item ([items, n])."""
    return {**arrays, _ITEM_FACTORS: factors}


def item_factors_of(arrays: Arrays, items: Sequence[bytes], n: int) -> np.ndarray | None:
    """[items, n] float32: those of `with_item_factors` by the items' names, zeros for one that has none; None where
    there are none of so many numbers."""
    found = arrays.get(_ITEM_FACTORS)
    if found is None or found.shape[1] != n:
        return None
    return _moved(found, np.zeros((len(items), n), np.float32), arrays["items"].tolist(), items)


def order_arrays(order: Order) -> Arrays:
    """The ranking stage's weights."""
    variables = {f"ranker_{n}": variable.numpy() for n, variable in enumerate(order.ranker.variables)}
    return {FIRST_STAGE: order.weights, **variables}


def order_from(arrays: Arrays, events: int, hidden: list[int]) -> Order:
    """The inverse of `order_arrays`.

    Raises:
      InputError: the weights are of another ranking stage.
    """
    features = len(arrays[FIRST_STAGE])
    ranker = Ranker(np.zeros(features), np.ones(features), events, hidden)
    ranker(np.zeros((1, 1, features), np.float32))
    found = [arrays.get(f"ranker_{n}") for n in range(len(ranker.variables))]
    for variable, value in zip(ranker.variables, found, strict=True):
        if value is None or value.shape != tuple(variable.shape):
            raise InputError(OTHER_RANKING)
        variable.assign(value)
    return Order(arrays[FIRST_STAGE], ranker)


def go_half_way(ranker: Ranker, arrays: Arrays) -> None:
    """Gives a ranker the mean of its weights and of those of `order_arrays`, from which it was trained on: that
    generalises better than either (Wortsman et al. 2022, arXiv 2109.01903)."""
    for n, variable in enumerate(ranker.variables):
        variable.assign((variable + arrays[f"ranker_{n}"]) / 2)


def save(arrays: dict[str, Arrays], folder: str) -> None:
    """Writes each entry as a file of a folder, on whatever file system that is."""
    tf.io.gfile.makedirs(folder)
    for name, values in arrays.items():
        content = io.BytesIO()
        np.savez_compressed(content, **values)
        with tf.io.gfile.GFile(f"{folder}/{name}.npz", "wb") as file:
            file.write(content.getvalue())


def load(folder: str) -> dict[str, Arrays]:
    """The inverse of `save`; nothing in a file is executed.

    Raises:
      InputError: there are no weights.
    """
    files = _files(folder)
    if not files:
        raise InputError(f"{folder}: holds no weights; the model was exported by an older homefeed: train anew.")
    return {name: dict(_open(file)) for name, file in files.items()}


def _files(folder: str) -> dict[str, str]:
    """Entry -> the file that `save` has written."""
    return {Path(path).stem: path for path in sorted(tf.io.gfile.glob(f"{folder}/*.npz"))}


def _open(path: str) -> Mapping[str, np.ndarray]:
    """A file's arrays, each of which is read when it is asked for."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return np.load(io.BytesIO(file.read()), allow_pickle=False)


def until_of(arrays: Mapping[str, np.ndarray]) -> int:
    """See `tower_arrays`."""
    return int(arrays[_UNTIL])


def order_of(towers: str) -> str:
    """The entry of the ranking stage that goes with towers."""
    return f"order_{towers}"


def fresh_order_of(towers: str) -> str:
    """The entry of the ranking stage as the last training from nothing left it, in which every later one begins."""
    return f"fresh_{order_of(towers)}"


def weights_folder(export_folder: str) -> str:
    """Where an export keeps what the next training may start from; model servers do not look there."""
    return f"{export_folder}/assets.extra/weights"


def learned(export_folder: str, model: Mapping[str, Any]) -> dict[str, int]:
    """What a training that goes on from an export has learned already.

    Args:
      export_folder: of the earlier model.
      model: the configuration's `model` section.

    Returns:
      For each of the towers that go on, the moment that the earlier training of them has seen the log up to, seconds
      since 1970 UTC; empty where the earlier model lacks some, and all are trained from nothing.
    """
    files = _files(weights_folder(export_folder))
    return {towers: until_of(_open(files[towers])) for towers in _going_on(model)} if goes_on(files, model) else {}


def towers_of(model: Mapping[str, Any]) -> list[str]:
    """The entries of the towers that a training ends with; `model` is the configuration's section."""
    return [names.CUT_TOWERS, names.NOW_TOWERS] if model["refit"] else [names.CUT_TOWERS]


def goes_on(found: Collection[str], model: Mapping[str, Any]) -> bool:
    """Whether a training may go on from an earlier one, of which the entries `found` are there."""
    orders = map(fresh_order_of, towers_of(model)) if model["start"] == names.WARM else ()
    return model["start"] != names.FRESH and {*_going_on(model), *orders} <= set(found)


def _going_on(model: Mapping[str, Any]) -> list[str]:
    """The entries of the towers that go on."""
    return [*([names.WINDOWS_TOWERS] if model["start"] == names.WARM else []), *towers_of(model)]
