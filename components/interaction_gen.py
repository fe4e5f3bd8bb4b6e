"""InteractionGen: the usable log, joined with the catalogue and cut by time, as examples (splits: see `names`).

The log travels as Arrow batches and is shuffled once, by user; no step holds more than a bucket of users, and of each
user no more than their latest `max_user_events`. Everything else is as large as the catalogue, or smaller.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
from apache_beam.pvalue import AsSingleton
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import import_utils, path_utils

from components.artifacts import DataBlessing, TextEmbeddings
from components.columnar import buckets_of
from components.events import LatestEvents, OfKnownItems, ReadEvents, bucketed, with_sentiment
from components.example_maker import DAY, USER_SPLITS, MakeExamples
from components.examples import ReadRows, count_buckets, grouped, write_examples, write_split
from components.images import image_features
from components.interactions import BY_TIME, Timeline, going_on, plan_timeline, popularity
from components.row_validator import row_order
from components.sentiment import Sentiments
from components.spans import files_of
from components.text_embedding_gen import TEXT_HASH, embedding_files, item_text, text_hash
from schema import names
from schema.errors import InputError

_DOUBT = 5.0  # comments' worth of nothing said that an item's sentiment begins with
SPLITS = (*USER_SPLITS, names.CATALOG_SPLIT, names.TIMELINE_SPLIT)


class Interactions(beam.PTransform):
    """Usable tables to examples.

    Expands {"behaviors": groups of files, "catalog": rows, "users": rows, "text_embeddings": rows} into a dict
    split -> rows, for the splits that are as large as the catalogue or smaller; those of `USER_SPLITS` are written as
    files.

    Args:
      weights: event -> weight; events of weight 0 are left out.
      split: the configuration's `split` section as a dict.
      images: the configuration's `images` section as a dict.
      folders: split -> folder, for `USER_SPLITS`.
      items: how many the catalogue has, at most.
      buckets: into how many parts the users are parted.
      learned: what the training that these examples are for goes on from, see `interactions.going_on`.
      again: seconds before that are learned once more.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        split: Mapping[str, Any],
        images: Mapping[str, str],
        folders: Mapping[str, str],
        items: int,
        buckets: int,
        learned: Mapping[str, int] | None = None,
        again: int = 0,
    ):
        super().__init__()
        self._learned, self._again = learned or {}, again
        self._weights, self._split, self._images, self._folders = weights, split, images, folders
        self._items, self._buckets = items, buckets

    def expand(self, tables: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        weights, split, buckets = self._weights, self._split, self._buckets
        items = (
            tables[names.CATALOG]
            | "ByItem" >> beam.Map(lambda row: (row[names.ITEM_ID][0], row))
            | "RowsOfItem" >> beam.GroupByKey()
            | "Latest" >> beam.MapTuple(lambda _, rows: max(rows, key=_order_of))
        )
        log = tables[names.BEHAVIORS] | ReadEvents(weights, split["context"])
        events = {
            "events": log[ReadEvents.EVENTS],
            "items": items | "ItemIds" >> beam.Map(lambda row: row[names.ITEM_ID][0]),
        } | "KnownItems" >> OfKnownItems(self._items, buckets)
        eval_share = split["eval_share"] if split["by"] == BY_TIME else 0.0
        planned = (
            events
            | "Hours" >> beam.FlatMap(_hours)
            | "CountHours" >> beam.CombinePerKey(sum)
            | beam.combiners.ToDict()
            | "Plan" >> beam.Map(_plan, eval_share, split["snapshots"], split["windows"])
            | "GoingOn" >> beam.Map(going_on, self._learned, self._again)
        )
        timeline = AsSingleton(planned)
        sentiments = log[ReadEvents.COMMENTS] | Sentiments(planned, tables["text_embeddings"])
        latest = (
            events
            | "WithSentiment" >> beam.Map(with_sentiment, AsSingleton(sentiments))
            | "UserBuckets" >> beam.FlatMap(bucketed, names.USER_ID, buckets)
            | "LatestEvents" >> beam.CombinePerKey(LatestEvents(split["max_user_events"]))
        )
        profiles = tables[names.USERS] | "Profiles" >> beam.FlatMap(_profile, buckets)
        made = (
            {MakeExamples.EVENTS: latest, MakeExamples.PROFILES: profiles}
            | "JoinProfiles" >> beam.CoGroupByKey()
            | "Examples" >> beam.ParDo(MakeExamples(weights, split, self._folders, buckets), timeline)
        )
        slots = made | "SumSlots" >> beam.CombinePerKey(_SumArrays())
        catalog = (
            {"rows": items | _WithEmbeddings(tables["text_embeddings"]), "slots": slots}
            | "JoinCatalog" >> beam.CoGroupByKey()
            | "CatalogRows" >> beam.FlatMap(_catalog_row, timeline, split["half_lives_days"], self._images)
        )
        known = [event.encode() for event, weight in weights.items() if weight > 0]
        moments = (
            tables[names.CATALOG].pipeline
            | "Once" >> beam.Create([{names.KNOWN_EVENTS: known}])
            | "Snapshots"
            >> beam.Map(lambda row, plan: {**row, names.SNAPSHOT_TIMESTAMPS: list(plan.snapshots)}, timeline)
        )
        return {names.CATALOG_SPLIT: catalog, names.TIMELINE_SPLIT: moments}


def _profile(row: dict[str, list[Any]], buckets: int) -> Iterator[tuple[int, tuple[bytes, Any, list[bytes]]]]:
    """(bucket, (user id, order, traits)) of a row of users."""
    for user_id in row.get(names.USER_ID, ()):
        (bucket,) = buckets_of(pa.array([user_id], pa.binary()), buckets).tolist()
        yield bucket, (user_id, _order_of(row), profile_traits(row))


def profile_traits(row: dict[str, list[Any]]) -> list[bytes]:
    """`column=value` of a row of users; of a number its first digit and size: people of 31 and of 34 are alike."""
    columns = sorted(row.keys() - {names.USER_ID, *names.ROW_COLUMNS})
    values = {name: row[name][0] for name in columns}
    told = {name: v.decode("utf-8", "replace") if isinstance(v, bytes) else f"{v:.1g}" for name, v in values.items()}
    return [f"{name}={value}".encode() for name, value in told.items()]


def _hours(events: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    hours, counts = np.unique(np.asarray(events.column(3)) // 3600, return_counts=True)
    yield from zip(hours.tolist(), counts.tolist(), strict=True)


class _SumArrays(beam.CombineFn):
    """Arrays of one shape to their sum."""

    def create_accumulator(self) -> Any:
        return 0.0

    def add_input(self, accumulator: Any, array: np.ndarray) -> Any:
        return accumulator + array

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        return sum(accumulators)

    def extract_output(self, accumulator: Any) -> list[float]:
        return np.asarray(accumulator).tolist()


class _WithEmbeddings(beam.PTransform):
    """(item, row) with the embedding of the row's text."""

    def __init__(self, embeddings: beam.PCollection):
        super().__init__()
        self._embeddings = embeddings

    def expand(self, items: beam.PCollection) -> beam.PCollection:
        return (
            {
                "rows": items | "KeyText" >> beam.Map(lambda row: (text_hash(item_text(row)), row)),
                "embeddings": self._embeddings
                | "KeyHash" >> beam.Map(lambda row: (row[TEXT_HASH][0], row[names.TEXT_EMBEDDING])),
            }
            | "JoinText" >> beam.CoGroupByKey()
            | beam.FlatMapTuple(_with_embedding)
        )


def _order_of(row: dict[str, list[Any]]) -> tuple[str, int]:
    return row_order(row[names.SOURCE_ROW][0].decode())


def _with_embedding(_: bytes, sides: dict[str, Iterable[Any]]) -> Iterator[tuple[bytes, dict[str, list[Any]]]]:
    embeddings = list(sides["embeddings"])
    for row in sides["rows"]:
        yield row[names.ITEM_ID][0], {**row, names.TEXT_EMBEDDING: embeddings[0]}


def _plan(hours: dict[int, int], eval_share: float, snapshots: int, windows: int) -> Timeline:
    try:
        return plan_timeline(hours, eval_share, snapshots, windows)
    except ValueError as error:
        raise InputError(f"behaviors: {error}.") from error


def _catalog_row(
    element: tuple[bytes, dict[str, Iterable[Any]]],
    timeline: Timeline,
    half_lives: list[float],
    images: Mapping[str, str],
) -> Iterator[dict[str, list[Any]]]:
    item_id, sides = element
    for row in sides["rows"]:
        category = row.get(names.CATEGORY, [b""])[0]
        price = row.get(names.PRICE, [math.nan])[0]
        slots: list[list[float]] = next(iter(sides["slots"]), [[]] * (len(half_lives) + 2))
        *decayed, said, comments = (dict(enumerate(values)) for values in slots)
        yield {
            names.ITEM_ID: [item_id],
            names.TEXT: [item_text(row).encode()],
            names.CATEGORY: [c.strip() for c in category.split(names.CATEGORY_SEPARATOR.encode()) if c.strip()],
            names.PRICE: [price] if 0 <= price < math.inf else [],
            names.POPULARITY: [
                math.log1p(value)
                for half_life, weights in zip(half_lives, decayed, strict=True)
                for value in popularity(timeline, weights, half_life * DAY)
            ],
            names.SENTIMENT: [
                total / (count + _DOUBT)
                for total, count in zip(
                    popularity(timeline, said, math.inf), popularity(timeline, comments, math.inf), strict=True
                )
            ],
            names.TEXT_EMBEDDING: row[names.TEXT_EMBEDDING],
            **image_features(item_id, row.get(images["column"], [b""])[0], images["kind"], images["folder"]),
        }


@component(use_beam=True)
def InteractionGen(
    behaviors: InputArtifact[Examples],
    catalog: InputArtifact[Examples],
    text_embeddings: InputArtifact[TextEmbeddings],
    blessing: InputArtifact[DataBlessing],
    examples: OutputArtifact[Examples],
    events: Parameter[str],
    split: Parameter[str],
    images: Parameter[str],
    code_version: Parameter[str],
    users: InputArtifact[Examples] = None,
    earlier_model: InputArtifact[Model] = None,
    start: Parameter[str] = "",
    learned_fn: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes the splits of `SPLITS`. `behaviors`, `catalog` and `users` are RowValidator's rows; `events` is JSON,
    event -> weight; `split` and `images` are JSON of the configuration's sections. Where training goes on from
    `earlier_model`, `start` is JSON of the configuration's `model` section and `learned_fn` the path of a function
    `(folder of the export, model section) -> learned`, see `interactions.going_on`."""
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    folders = {name: artifact_utils.get_split_uri([examples], name) for name in USER_SPLITS}
    for folder in folders.values():
        tf.io.gfile.makedirs(folder)
    logs, items = files_of(behaviors), files_of(catalog)
    parted, model = json.loads(split), json.loads(start or "{}")
    learned: dict[str, int] = {}
    if earlier_model is not None and parted["by"] == BY_TIME:  # else each user is parted at moments of their own
        export = path_utils.serving_model_path(earlier_model.uri)
        learned = import_utils.import_class_by_path(learned_fn)(export, model)
    with beam_pipeline as pipeline:
        tables = {
            names.BEHAVIORS: pipeline | "Behaviors" >> beam.Create(grouped(logs)),
            names.CATALOG: pipeline | "Catalog" >> ReadRows(items),
            names.USERS: pipeline | "Users" >> ReadRows(files_of(users) if users else []),
            "text_embeddings": pipeline | "TextEmbeddings" >> ReadRows(embedding_files(text_embeddings)),
        }
        interactions = Interactions(
            json.loads(events),
            parted,
            json.loads(images),
            folders,
            count_rows(items),
            count_buckets(logs),
            learned,
            model.get("warm_days", 0) * DAY,
        )
        for name, rows in (tables | interactions).items():
            _ = rows | f"Write[{name}]" >> write_split(examples, name)
    for folder in folders.values():
        if not tf.io.gfile.glob(f"{folder}/*.gz"):  # a split without rows is a split all the same
            write_examples(f"{folder}/data_tfrecord-00000-of-00001.gz", [])


def count_rows(files: list[str]) -> int:
    """How many rows files have."""
    return sum(1 for _ in tf.data.TFRecordDataset(files, compression_type="GZIP")) if files else 0
