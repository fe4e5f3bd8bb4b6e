"""InteractionGen: the cleaned log, joined with the catalogue and cut by time, as examples (splits: see `names`)."""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import tfx.v1 as tfx
from apache_beam.pvalue import AsSingleton
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples
from tfx.v1.dsl.components import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter

from components.artifacts import DataBlessing, TextEmbeddings
from components.data_gate import blessed_limits
from components.examples import ReadSplit, row_order, write_split
from components.interactions import (
    Event,
    Timeline,
    UserExamples,
    plan_timeline,
    popularity,
    snapshot_slot,
)
from components.row_rules import Limits, is_usable
from components.text_embedding_gen import (
    TEXT_HASH,
    ReadRows,
    embedding_files,
    item_text,
    text_hash,
)
from schema import names
from schema.errors import InputError

_DAY = 86_400
SPLITS = (names.TRAIN_SPLIT, names.EVAL_SPLIT, names.CATALOG_SPLIT, names.USERS_SPLIT, names.TIMELINE_SPLIT)


class Interactions(beam.PTransform):
    """Decoded tables to decoded examples.

    Expands {"behaviors", "catalog", "text_embeddings"} into a dict split -> rows.

    Args:
      limits: by which DataGate judged the rows; those that break a rule are left out.
      weights: event -> weight; events of weight 0 are left out.
      split: the configuration's `split` section as a dict.
    """

    def __init__(self, limits: Limits, weights: dict[str, float], split: dict[str, Any]):
        super().__init__()
        self._limits, self._weights, self._split = limits, weights, split

    def expand(self, tables: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        limits, weights, split = self._limits, self._weights, self._split
        items = (
            tables[names.CATALOG]
            | "UsableItems" >> beam.Filter(is_usable, names.CATALOG, limits)
            | "ByItem" >> beam.Map(lambda row: (row[names.ITEM_ID][0], row))
        )
        events = (
            tables[names.BEHAVIORS]
            | "UsableEvents" >> beam.Filter(is_usable, names.BEHAVIORS, limits)
            | "Weighted" >> beam.FlatMap(_weighted, weights)
        )
        events = {"events": events, "items": items} | "KnownItems" >> _OfKnownItems()
        timeline = AsSingleton(
            events
            | "Hours" >> beam.Map(lambda pair: pair[1].timestamp // 3600)
            | beam.combiners.Count.PerElement()
            | beam.combiners.ToDict()
            | "Plan" >> beam.Map(_plan, split["eval_share"], split["snapshots"])
        )
        examples = (
            events
            | "ByUser" >> beam.GroupByKey()
            | "Examples"
            >> beam.ParDo(_Examples(weights, split["history_length"]), timeline).with_outputs(
                names.TRAIN_SPLIT, names.EVAL_SPLIT, names.USERS_SPLIT
            )
        )
        counts = (
            examples[names.TRAIN_SPLIT]
            | "Targets" >> beam.Map(lambda row: row[names.TARGET_ITEM_IDS][0])
            | "TrainCount" >> beam.combiners.Count.PerElement()
        )
        half_life = split["half_life_days"] * _DAY
        slots = (
            events
            | "Decayed" >> beam.Map(_decayed, timeline, weights, half_life)
            | "SumSlots" >> beam.CombinePerKey(sum)
            | "SlotsByItem" >> beam.Map(lambda pair: (pair[0][0], (pair[0][1], pair[1])))
        )
        catalog = (
            {"rows": items | _WithEmbeddings(tables["text_embeddings"]), "counts": counts, "slots": slots}
            | "JoinCatalog" >> beam.CoGroupByKey()
            | "CatalogRows" >> beam.FlatMap(_catalog_row, timeline, half_life)
        )
        moments = (
            tables[names.CATALOG].pipeline
            | "Once" >> beam.Create([None])
            | "Snapshots" >> beam.Map(lambda _, plan: {names.SNAPSHOT_TIMESTAMPS: list(plan.snapshots)}, timeline)
        )
        return {
            **{name: examples[name] for name in (names.TRAIN_SPLIT, names.EVAL_SPLIT, names.USERS_SPLIT)},
            names.CATALOG_SPLIT: catalog,
            names.TIMELINE_SPLIT: moments,
        }


def _weighted(row: dict[str, list[Any]], weights: dict[str, float]) -> Iterator[tuple[bytes, Event]]:
    event = row[names.EVENT][0]
    if weights[event.decode()] > 0:
        yield row[names.USER_ID][0], Event(row[names.TIMESTAMP][0], row[names.ITEM_ID][0], event)


class _OfKnownItems(beam.PTransform):
    """(user, event) pairs whose item the catalogue has. A keyed join: neither side has to fit into memory."""

    def expand(self, sides: dict[str, beam.PCollection]) -> beam.PCollection:
        return (
            {
                "events": sides["events"] | beam.Map(lambda pair: (pair[1].item_id, pair)),
                "items": sides["items"] | beam.Map(lambda pair: (pair[0], True)),
            }
            | beam.CoGroupByKey()
            | beam.FlatMap(lambda pair: list(pair[1]["events"]) if any(pair[1]["items"]) else [])
        )


class _WithEmbeddings(beam.PTransform):
    """(item, row) with the embedding of the row's text; of several rows of an item the first stays."""

    def __init__(self, embeddings: beam.PCollection):
        super().__init__()
        self._embeddings = embeddings

    def expand(self, items: beam.PCollection) -> beam.PCollection:
        first = items | beam.GroupByKey() | beam.MapTuple(lambda _, rows: min(rows, key=_order_of))
        return (
            {
                "rows": first | "KeyText" >> beam.Map(lambda row: (text_hash(item_text(row)), row)),
                "embeddings": self._embeddings
                | "KeyHash" >> beam.Map(lambda row: (row[TEXT_HASH][0], row[names.TEXT_EMBEDDING])),
            }
            | "JoinText" >> beam.CoGroupByKey()
            | beam.FlatMapTuple(_with_embedding)
        )


def _order_of(row: dict[str, list[Any]]) -> tuple[str, int]:
    return row_order(row[names.SOURCE_ROW][0].decode())


def _with_embedding(_: bytes, sides: dict[str, Iterable[Any]]) -> Iterator[tuple[bytes, dict[str, list[Any]]]]:
    rows, embeddings = list(sides["rows"]), list(sides["embeddings"])
    for row in rows:
        yield row[names.ITEM_ID][0], {**row, names.TEXT_EMBEDDING: embeddings[0]}


class _Examples(beam.DoFn):
    """(user, events) to rows, each under the tag of its split."""

    def __init__(self, weights: dict[str, float], history_length: int):
        self._weights, self._history_length = weights, history_length

    def process(self, element: tuple[bytes, Iterable[Event]], timeline: Timeline) -> Iterator[beam.pvalue.TaggedOutput]:
        for split, row in UserExamples(timeline, self._weights, self._history_length)(*element):
            yield beam.pvalue.TaggedOutput(split, row)


def _plan(hours: dict[int, int], eval_share: float, snapshots: int) -> Timeline:
    try:
        return plan_timeline(hours, eval_share, snapshots)
    except ValueError as error:
        raise InputError(f"behaviors: {error}.") from error


def _decayed(
    pair: tuple[bytes, Event], timeline: Timeline, weights: dict[str, float], half_life: float
) -> tuple[tuple[bytes, int], float]:
    """((item, slot), weight decayed to the slot's snapshot); the strongest event weighs 1."""
    event = pair[1]
    slot = snapshot_slot(timeline, event.timestamp)
    age = timeline.snapshots[slot] - event.timestamp
    weight = weights[event.event.decode()] / max(weights.values())
    return (event.item_id, slot), weight * 0.5 ** (age / half_life)


def _catalog_row(
    element: tuple[bytes, dict[str, Iterable[Any]]], timeline: Timeline, half_life: float
) -> Iterator[dict[str, list[Any]]]:
    item_id, sides = element
    for row in sides["rows"]:
        category = row.get(names.CATEGORY, [b""])[0]
        price = row.get(names.PRICE, [math.nan])[0]
        yield {
            names.ITEM_ID: [item_id],
            names.TITLE: row.get(names.TITLE, []),
            names.CATEGORY: [c.strip() for c in category.split(names.CATEGORY_SEPARATOR.encode()) if c.strip()],
            names.PRICE: [price] if 0 <= price < math.inf else [],
            names.TRAIN_COUNT: [sum(sides["counts"])],
            names.POPULARITY: [math.log1p(value) for value in popularity(timeline, dict(sides["slots"]), half_life)],
            names.TEXT_EMBEDDING: row[names.TEXT_EMBEDDING],
        }


@tfx.dsl.components.component(use_beam=True)
def InteractionGen(
    behaviors: InputArtifact[Examples],
    catalog: InputArtifact[Examples],
    text_embeddings: InputArtifact[TextEmbeddings],
    blessing: InputArtifact[DataBlessing],
    examples: OutputArtifact[Examples],
    events: Parameter[str],
    split: Parameter[str],
    code_version: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes the splits of `SPLITS`. `events` and `split` are the configuration's sections as JSON."""
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    with beam_pipeline as pipeline:
        tables = {
            names.BEHAVIORS: pipeline | "Behaviors" >> ReadSplit(behaviors, names.ALL_SPLIT),
            names.CATALOG: pipeline | "Catalog" >> ReadSplit(catalog, names.ALL_SPLIT),
            "text_embeddings": pipeline | "TextEmbeddings" >> ReadRows(embedding_files(text_embeddings)),
        }
        transform = Interactions(blessed_limits(blessing), json.loads(events), json.loads(split))
        for name, rows in (tables | transform).items():
            _ = rows | f"Write[{name}]" >> write_split(examples, name)
