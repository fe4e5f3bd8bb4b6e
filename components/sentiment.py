"""What comments say: a linear head over their embeddings, learned from comments that carry a rating."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute
from apache_beam.pvalue import AsSingleton

from components.interactions import Timeline
from components.text_embedding_gen import TEXT_HASH, text_hash
from schema import names

RATED_EVENTS = (b"rating", b"comment")  # those whose `value` is a rating; a purchase's is a quantity
_LEAST = 20  # rated comments that a head is learned from
_RIDGE = 1.0  # a comment's worth of doubt in each direction of the embedding


class Sentiments(beam.PTransform):
    """What `comments_of` finds, and text embeddings, to one table of sentiments, as `lookup` takes it.

    Sentiment is in [-1, 1]: what a rating says, by its place between the lowest and the highest, as far as the words
    tell it. Only ratings from before the cut are learned from. Without ratings that differ there is none.

    Args:
      timeline: the singleton PCollection of the log's timeline.
      text_embeddings: rows of TextEmbeddingGen.
    """

    def __init__(self, timeline: beam.PCollection, text_embeddings: beam.PCollection):
        super().__init__()
        self._timeline, self._embeddings = timeline, text_embeddings

    def expand(self, comments: beam.PCollection) -> beam.PCollection:
        joined = {
            "ratings": comments,
            "vectors": self._embeddings
            | "KeyComment" >> beam.Map(lambda row: (row[TEXT_HASH][0], row[names.TEXT_EMBEDDING])),
        } | "JoinComments" >> beam.CoGroupByKey()
        said = joined | "Said" >> beam.FlatMapTuple(_said)
        head = (
            said
            | "Rated" >> beam.FlatMap(_rated, AsSingleton(self._timeline))
            | "BatchRated" >> beam.BatchElements(min_batch_size=100, max_batch_size=5_000)
            | "Learn" >> beam.CombineGlobally(Ridge())
        )
        return (
            said
            | "BatchSaid" >> beam.BatchElements(min_batch_size=100, max_batch_size=5_000)
            | "Judge" >> beam.Map(_judge, AsSingleton(head))
            | beam.combiners.ToList()
            | "Table" >> beam.Map(_table)
        )


def hashes_of(comments: pa.Array) -> pa.Array:
    """Comments to the keys of their texts; null where there is none."""
    return pa.array([text_hash(c.decode("utf-8", "replace")) if c else None for c in comments.to_pylist()], pa.binary())


def lookup(table: tuple[pa.Array, np.ndarray], keys: pa.Array) -> np.ndarray:
    """Sentiments of keys ([n] float64), NaN where there is none."""
    known, sentiments = table
    places = np.asarray(pa.compute.index_in(keys, known).fill_null(-1))
    return np.append(sentiments, np.nan)[places] if len(places) else np.zeros(0)


def comments_of(columns: Mapping[str, pa.Array]) -> Iterator[tuple[bytes, tuple[int, float]]]:
    """(key of the text, (timestamp, rating; NaN without one)) of the rows of behaviors that have a comment."""
    is_said = pa.compute.and_(columns[names.COMMENT].is_valid(), columns[names.TIMESTAMP].is_valid())
    wanted = (names.COMMENT, names.EVENT, names.TIMESTAMP, names.VALUE)
    rows = zip(*(columns[name].filter(is_said).to_pylist() for name in wanted), strict=True)
    for key, event, timestamp, value in rows:
        yield key, (timestamp, value if event in RATED_EVENTS and value is not None else np.nan)


def _said(key: bytes, sides: dict[str, Iterable[Any]]) -> Iterator[tuple[bytes, list[float], list[tuple[int, float]]]]:
    ratings = list(sides["ratings"])
    for vector in sides["vectors"] if ratings else ():
        yield key, vector, ratings


def _rated(said: tuple[bytes, list[float], list[tuple[int, float]]], timeline: Timeline) -> Iterator[tuple[Any, float]]:
    _, vector, ratings = said
    for timestamp, rating in ratings:
        if timestamp < timeline.cut and np.isfinite(rating):
            yield vector, rating


@dataclass(frozen=True)
class Head:
    """Sentiment = embedding · weights + bias, clipped to [-1, 1]."""

    weights: np.ndarray
    bias: float


class Ridge(beam.CombineFn):
    """Batches of (embedding, rating) to a `Head`, or None where there are too few ratings or all are the same.

    Ridge regression by its sums, X'X and X'y, so that any number of comments is learned from in the memory of one
    matrix; around the mean, so that the ridge pulls towards it.
    """

    def create_accumulator(self) -> Any:
        return None

    def add_input(self, accumulator: Any, batch: list[tuple[list[float], float]]) -> Any:
        vectors, ratings = (np.array(values, np.float64) for values in zip(*batch, strict=True))
        return self._sum(
            accumulator,
            (
                vectors.T @ vectors,
                vectors.T @ ratings,
                vectors.sum(axis=0),
                np.array([len(ratings), ratings.sum()]),
                np.array([-ratings.min(), ratings.max()]),
            ),
        )

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        merged = None
        for accumulator in accumulators:
            merged = accumulator if merged is None else self._sum(merged, accumulator)
        return merged

    def _sum(self, one: Any, other: Any) -> Any:
        if one is None or other is None:
            return other if one is None else one
        *sums, bounds = zip(one, other, strict=True)
        return (*(a + b for a, b in sums), np.maximum(*bounds))

    def extract_output(self, accumulator: Any) -> Head | None:
        if accumulator is None:
            return None
        squares, products, total, (count, rated), (lowest, highest) = accumulator
        spread = (highest + lowest) / 2
        if count < _LEAST or spread == 0:
            return None
        mean, level = total / count, rated / count
        centred = squares - count * np.outer(mean, mean) + _RIDGE * np.eye(len(mean))
        weights = np.linalg.solve(centred, products - count * mean * level)
        middle = (highest - lowest) / 2
        return Head(weights / spread, (level - mean @ weights - middle) / spread)


def _judge(batch: list[tuple[bytes, list[float], Any]], head: Head | None) -> list[tuple[bytes, float]]:
    if head is None:
        return []
    sentiments = np.clip(np.array([vector for _, vector, _ in batch]) @ head.weights + head.bias, -1, 1)
    return [(key, float(value)) for (key, _, _), value in zip(batch, sentiments, strict=True)]


def _table(batches: list[list[tuple[bytes, float]]]) -> tuple[pa.Array, np.ndarray]:
    pairs = sorted(pair for batch in batches for pair in batch)
    return pa.array([key for key, _ in pairs], pa.binary()), np.array([value for _, value in pairs], np.float64)
