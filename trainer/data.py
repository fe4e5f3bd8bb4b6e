"""Reads Transform's output: the training examples as a tf.data pipeline; catalogue, states and moments as tables."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from schema import names
from schema.errors import InputError


@dataclass(frozen=True)
class Catalog:
    """The items, in the order of their index.

    Attributes:
      item_ids: [items] object (bytes).
      categories: [items, most] int64, padded with -1.
      prices: [items] float32, scaled; 0 where there is none.
      popularity: [items, half-lives, snapshots] float32, log(1 + recent popularity).
      text_embeddings: [items, text dimensions] float32, of unit length.
      texts: [items] object (bytes), what those are of.
      sentiment: [items, snapshots] float32, what comments have said by then, in [-1, 1].
      snapshots: [snapshots] int64, seconds since 1970 UTC, ascending; the last is now.
      images: [items, n] float32 embeddings, or [items, side, side, 3] uint8 pixels; zeros where an item has none. None
        where no item has one.
    """

    item_ids: np.ndarray
    categories: np.ndarray
    prices: np.ndarray
    popularity: np.ndarray
    text_embeddings: np.ndarray
    texts: np.ndarray
    sentiment: np.ndarray
    snapshots: np.ndarray
    images: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True)
class Ragged:
    """Lists of different lengths: those of row i are `values[splits[i]:splits[i + 1]]`."""

    values: np.ndarray
    splits: np.ndarray

    def row(self, i: int) -> np.ndarray:
        return self.values[self.splits[i] : self.splits[i + 1]]

    def take(self, rows: np.ndarray) -> "Ragged":
        return ragged([self.row(i) for i in rows], self.values.dtype)


@dataclass(frozen=True)
class States:
    """What is known of users at a moment each, and what they turned to after it.

    Attributes:
      user_ids: [states] object (bytes).
      users: [states] int64 user indices.
      traits: [states, most] int32 trait indices, padded with -1.
      moments: [states] int64, seconds since 1970 UTC.
      histories: [states, history length] int32 item indices, newest first, padded with -1.
      history_events: the same shape, int32 event indices, 0 where padded.
      history_times: the same shape, int64 seconds since 1970 UTC, 0 where padded.
      seen: all items before the moment, int32.
      targets: items after it, int32; in a window one for each of `target_events` (int32).
      windows: [states] int64, the window's number; 0 where it is none.
    """

    user_ids: np.ndarray
    users: np.ndarray
    traits: np.ndarray
    moments: np.ndarray
    histories: np.ndarray
    history_events: np.ndarray
    history_times: np.ndarray
    seen: Ragged
    targets: Ragged
    target_events: Ragged
    windows: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> "States":
        """The states of some rows."""
        taken: dict[str, Any] = {
            name: value.take(rows) if isinstance(value, Ragged) else value[rows] for name, value in vars(self).items()
        }
        return States(**taken)


@dataclass(frozen=True)
class Pairs:
    """The first event of each user on each item, from the users split; one entry each.

    Attributes:
      users, items: int64 indices.
      timestamps: int64, seconds since 1970 UTC.
      windows: int64, how many of the user's ranking windows had begun; one more than there are from the cut on.
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    windows: np.ndarray

    def before(self, window: int) -> "Pairs":
        """The pairs from before a window's start."""
        return Pairs(*(value[self.windows < window] for value in vars(self).values()))


def read_pairs(pattern: str, transform: tft.TFTransformOutput) -> Pairs:
    """Loads what users have seen, and since when."""
    wanted = (names.SEEN_ITEMS, names.SEEN_TIMESTAMPS, names.SEEN_WINDOWS)
    spec = {name: transform.transformed_feature_spec()[name] for name in (names.USER_INDEX, *wanted)}
    columns = [[np.zeros(0, np.int64)] for _ in (names.USER_INDEX, *wanted)]
    for records in _records(pattern).batch(4096):
        parsed = tf.io.parse_example(records, spec)
        users = parsed[names.USER_INDEX].values.numpy()[parsed[names.SEEN_ITEMS].indices[:, 0].numpy()]
        for column, values in zip(columns, (users, *(parsed[name].values.numpy() for name in wanted)), strict=True):
            column.append(values)
    return Pairs(*map(np.concatenate, columns))


def training_batches(
    pattern: str,
    transform: tft.TFTransformOutput,
    history_length: int,
    batch_size: int,
    window: int,
    since: int,
    seed: int,
) -> Callable[[int], tf.data.Dataset]:
    """Training examples from before a window's start and not from before a moment, in batches of equal size; each epoch
    in an order of its own.

    Returns:
      epoch -> a dataset of dicts: `user_index` [batch] int64, `trait_indices` [batch, most] int64 padded with -1,
      `history_items` and `history_event_indices` [batch, length] int64 padded with -1 and 0, `history_timestamps` the
      same shape padded with 0, `target_items` [batch] int64, `timestamp` [batch] int64, `weight` [batch] float32;
      `length` is that of the batch's longest history.
    """
    single = (names.USER_INDEX, names.TARGET_ITEMS, names.TIMESTAMP, names.WEIGHT)
    histories = {names.HISTORY_ITEMS: -1, names.HISTORY_EVENT_INDICES: 0, names.HISTORY_TIMESTAMPS: 0}
    padded = {names.TRAIT_INDICES: -1, **histories}
    spec = {name: transform.transformed_feature_spec()[name] for name in (*single, *padded, names.WINDOW)}

    # A function of its own, so that it is traced once, and not for each epoch's dataset.
    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(serialized, spec)
        lists = {name: tf.RaggedTensor.from_sparse(parsed[name]) for name in padded}
        return {
            **{name: tf.sparse.to_dense(parsed[name])[:, 0] for name in single},
            **{
                name: with_a_column(rows[:, :history_length].to_tensor(tf.cast(padded[name], rows.dtype)), padded[name])
                for name, rows in lists.items()
            },
        }

    def inside(serialized: tf.Tensor) -> tf.Tensor:
        parsed = tf.io.parse_example(serialized, {name: spec[name] for name in (names.WINDOW, names.TIMESTAMP)})
        begun, moment = (tf.sparse.to_dense(parsed[name])[:, 0] for name in (names.WINDOW, names.TIMESTAMP))
        return tf.boolean_mask(serialized, (begun < window) & (moment >= since))

    kept = _records(pattern).batch(16_384).map(inside).unbatch().cache()
    count = int(kept.reduce(np.int64(0), lambda total, _: total + 1))
    size = min(batch_size, max(count, 1))

    def epoch_of(epoch: int) -> tf.data.Dataset:
        return (
            kept.shuffle(max(count, 1), seed=seed * 1009 + epoch, reshuffle_each_iteration=False)
            .batch(size, drop_remainder=True)
            .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
            .apply(tf.data.experimental.assert_cardinality(count // size))
        )

    return epoch_of


def with_a_column(rows: tf.Tensor, padding: int | str) -> tf.Tensor:
    """[batch, n] as it is, or one column of padding where n is 0: nobody of the batch has a history."""
    missing = tf.maximum(1 - tf.shape(rows)[1], 0)
    return tf.pad(rows, [[0, 0], [0, missing]], constant_values=tf.constant(padding, rows.dtype))


def read_catalog(pattern: str, timeline_pattern: str, transform: tft.TFTransformOutput) -> Catalog:
    """Loads the catalogue split and the snapshots' moments."""
    rows = sorted(_rows(pattern, transform), key=lambda row: int(row[names.ITEM_INDEX][0]))
    snapshots = next(iter(_rows(timeline_pattern, transform)))[names.SNAPSHOT_TIMESTAMPS]
    return Catalog(
        item_ids=np.array([row[names.ITEM_ID][0] for row in rows], object),
        categories=_padded([row[names.CATEGORY_INDICES] for row in rows], -1, np.int64),
        prices=np.array(
            [row[names.PRICE_SCALED][0] if len(row[names.PRICE_SCALED]) else 0 for row in rows], np.float32
        ),
        popularity=np.array([row[names.POPULARITY] for row in rows], np.float32).reshape(len(rows), -1, len(snapshots)),
        text_embeddings=np.array([row[names.TEXT_EMBEDDING] for row in rows], np.float32),
        texts=np.array([row[names.TEXT][0] for row in rows], object),
        sentiment=np.array([row[names.SENTIMENT] for row in rows], np.float32),
        snapshots=np.array(snapshots, np.int64),
        images=_images(rows),
    )


def _images(rows: list[dict[str, np.ndarray]]) -> np.ndarray | None:
    pixels = [row[names.IMAGE][0] if len(row[names.IMAGE]) else b"" for row in rows]
    embeddings = [row[names.IMAGE_EMBEDDING] for row in rows]
    if any(pixels):
        size = max(map(len, pixels))
        flat = np.frombuffer(b"".join(image or bytes(size) for image in pixels), np.uint8)
        side = math.isqrt(size // 3)
        return flat.reshape(len(rows), side, side, 3)
    size = max(map(len, embeddings), default=0)
    if not size:
        return None
    if any(len(embedding) not in (0, size) for embedding in embeddings):
        raise InputError("catalog: the images' embeddings have different lengths; one model has to make them all.")
    return np.array([value if len(value) else np.zeros(size) for value in embeddings], np.float32)


def read_states(pattern: str, transform: tft.TFTransformOutput, history_length: int) -> States:
    """Loads the windows, eval or users split."""
    rows = list(_rows(pattern, transform))
    return States(
        user_ids=np.array([row[names.USER_ID][0] for row in rows], object),
        users=np.array([row[names.USER_INDEX][0] for row in rows], np.int64),
        traits=_padded([row[names.TRAIT_INDICES] for row in rows], -1, np.int32),
        moments=np.array([row[names.TIMESTAMP][0] for row in rows], np.int64),
        histories=_padded([row[names.HISTORY_ITEMS] for row in rows], -1, np.int32, history_length),
        history_events=_padded([row[names.HISTORY_EVENT_INDICES] for row in rows], 0, np.int32, history_length),
        history_times=_padded([row[names.HISTORY_TIMESTAMPS] for row in rows], 0, np.int64, history_length),
        seen=ragged([row[names.SEEN_ITEMS] for row in rows]),
        targets=ragged([row[names.TARGET_ITEMS] for row in rows]),
        target_events=ragged([row[names.TARGET_EVENT_INDICES] for row in rows]),
        windows=np.array([row[names.WINDOW][0] if len(row[names.WINDOW]) else 0 for row in rows], np.int64),
    )


def inputs_of(states: States, rows: slice | np.ndarray) -> tuple[tf.Tensor, ...]:
    """Users, traits, histories, events, times and moments, as `Channels.query` takes them."""
    histories = (states.histories, states.history_events, states.history_times)
    columns = (states.users, states.traits, *histories, states.moments)
    return tuple(tf.constant(column[rows], tf.int64) for column in columns)


def with_targets(states: States, most: int | None = None) -> np.ndarray:
    """Rows of states that have anything relevant, or a fixed sample of so many."""
    rows = np.flatnonzero(np.diff(states.targets.splits))
    if most is None or len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def ragged(lists: Sequence[np.ndarray], dtype: type | np.dtype = np.int32) -> Ragged:
    """Lists to one array and where each begins."""
    values = np.concatenate([np.zeros(0, dtype), *lists]).astype(dtype)
    return Ragged(values, np.cumsum([0, *map(len, lists)]).astype(np.int64))


def _records(pattern: str) -> tf.data.TFRecordDataset:
    return tf.data.TFRecordDataset(sorted(tf.io.gfile.glob(pattern)), compression_type="GZIP")


def _rows(pattern: str, transform: tft.TFTransformOutput) -> list[dict[str, np.ndarray]]:
    """Rows of a split; every feature a one-dimensional array, empty where the row has none."""
    spec = transform.transformed_feature_spec()
    rows: list[dict[str, np.ndarray]] = []
    for records in _records(pattern).batch(4096):
        parsed = tf.io.parse_example(records, spec)
        columns = {name: _split_rows(value) for name, value in parsed.items()}
        rows += [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return rows


def _split_rows(sparse: tf.SparseTensor) -> list[np.ndarray]:
    lengths = np.bincount(sparse.indices[:, 0].numpy(), minlength=int(sparse.dense_shape[0]))
    return np.split(sparse.values.numpy(), np.cumsum(lengths)[:-1])


def _padded(rows: list[np.ndarray], padding: int, dtype: type, width: int | None = None) -> np.ndarray:
    width = width or max(1, max((len(row) for row in rows), default=1))
    table: np.ndarray = np.full((len(rows), width), padding, dtype)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row[:width]
    return table
