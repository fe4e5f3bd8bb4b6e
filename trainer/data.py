"""Reads Transform's output: the training examples as a tf.data pipeline, the catalogue and users as tables."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from schema import names


@dataclass(frozen=True)
class Catalog:
    """The items, in the order of their index.

    Attributes:
      item_ids: [items] object (bytes).
      categories: [items, most] int64, padded with -1.
      prices: [items] float32, scaled; 0 where there is none.
      train_counts: [items] int64, how often each is a target in training.
      popularity: [items, snapshots] float32, log(1 + recent popularity).
      text_embeddings: [items, text dimensions] float32, of unit length.
      snapshots: [snapshots] int64, seconds since 1970 UTC, ascending; the last is now.
    """

    item_ids: np.ndarray
    categories: np.ndarray
    prices: np.ndarray
    train_counts: np.ndarray
    popularity: np.ndarray
    text_embeddings: np.ndarray
    snapshots: np.ndarray

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True)
class Users:
    """What is known of each user at the log's end.

    Attributes:
      user_ids: [users] object (bytes).
      histories: [users, history length] int32 item indices, newest first, padded with -1.
      history_events: [users, history length] int32 event indices, 0 where padded.
      seen: item indices of all users, one user's after the other's.
      seen_splits: [users + 1] int64, where each user's part of `seen` begins and ends.
    """

    user_ids: np.ndarray
    histories: np.ndarray
    history_events: np.ndarray
    seen: np.ndarray
    seen_splits: np.ndarray


def training_dataset(
    pattern: str, transform: tft.TFTransformOutput, history_length: int, batch_size: int, seed: int
) -> tf.data.Dataset:
    """The training split, shuffled, in batches of equal size.

    Yields dicts: `user_index` [batch] int64, `history_items` and `history_event_indices` [batch, history_length] int64
    padded with -1 and 0, `target_items` [batch] int64, `timestamp` [batch] int64, `weight` [batch] float32.
    """
    wanted = (
        names.USER_INDEX,
        names.HISTORY_ITEMS,
        names.HISTORY_EVENT_INDICES,
        names.TARGET_ITEMS,
        names.TIMESTAMP,
        names.WEIGHT,
    )
    spec = {name: transform.transformed_feature_spec()[name] for name in wanted}

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(serialized, spec)
        shape = [None, history_length]
        return {
            **{name: tf.sparse.to_dense(parsed[name])[:, 0] for name in wanted if "history" not in name},
            names.HISTORY_ITEMS: _dense(parsed[names.HISTORY_ITEMS], shape, -1),
            names.HISTORY_EVENT_INDICES: _dense(parsed[names.HISTORY_EVENT_INDICES], shape, 0),
        }

    files = tf.io.gfile.glob(pattern)
    count = sum(1 for _ in tf.data.TFRecordDataset(sorted(files), compression_type="GZIP"))
    return (
        tf.data.TFRecordDataset(sorted(files), compression_type="GZIP")
        .cache()
        .shuffle(max(count, 1), seed=seed, reshuffle_each_iteration=True)
        .batch(min(batch_size, max(count, 1)), drop_remainder=True)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def _dense(sparse: tf.SparseTensor, shape: list[int | None], padding: int) -> tf.Tensor:
    ragged = tf.RaggedTensor.from_sparse(sparse)
    return ragged.to_tensor(default_value=tf.cast(padding, ragged.dtype), shape=shape)


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
        train_counts=np.array([row[names.TRAIN_COUNT][0] for row in rows], np.int64),
        popularity=np.array([row[names.POPULARITY] for row in rows], np.float32),
        text_embeddings=np.array([row[names.TEXT_EMBEDDING] for row in rows], np.float32),
        snapshots=np.array(snapshots, np.int64),
    )


def read_users(pattern: str, transform: tft.TFTransformOutput, history_length: int) -> Users:
    """Loads the users split."""
    rows = list(_rows(pattern, transform))
    seen = [row[names.SEEN_ITEMS] for row in rows]
    return Users(
        user_ids=np.array([row[names.USER_ID][0] for row in rows], object),
        histories=_padded([row[names.HISTORY_ITEMS] for row in rows], -1, np.int32, history_length),
        history_events=_padded([row[names.HISTORY_EVENT_INDICES] for row in rows], 0, np.int32, history_length),
        seen=np.concatenate([np.zeros(0, np.int32), *seen]).astype(np.int32),
        seen_splits=np.cumsum([0, *map(len, seen)]).astype(np.int64),
    )


def _rows(pattern: str, transform: tft.TFTransformOutput) -> list[dict[str, np.ndarray]]:
    """Rows of a split; every feature a one-dimensional array, empty where the row has none."""
    spec = transform.transformed_feature_spec()
    dataset = tf.data.TFRecordDataset(sorted(tf.io.gfile.glob(pattern)), compression_type="GZIP")
    rows: list[dict[str, np.ndarray]] = []
    for records in dataset.batch(4096):
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
