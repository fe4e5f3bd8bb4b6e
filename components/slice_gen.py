"""SliceGen: which slices of the evaluation a held-out example is in. TFMA slices by features of examples; these are not
the model's to know, so they are added beside it.

An example is in the slice of each of its targets: a user who turned to a cheap and to a dear item counts in both.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsDict, AsSingleton
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples

from components.examples import ReadRows, Row, split_files, write_split
from schema import names

CATEGORIES = 20  # with the most items have a slice of their own
_BANDS = (b"low", b"middle", b"high")
_DAYS = (b"monday", b"tuesday", b"wednesday", b"thursday", b"friday", b"saturday", b"sunday")
_OTHER, _NONE, _NEW, _KNOWN = b"other", b"none", b"new", b"known"


class ItemSlices(NamedTuple):
    """Of one item of the catalogue.

    Attributes:
      categories: the item's, small ones as `other`; `none` where it has none.
      band: of its price, a third of the priced catalogue each: `low`, `middle`, `high`; `none` without a price.
      first: the first moment in seconds since 1970 UTC at which popularity tells of an event; None where none does.
    """

    categories: tuple[bytes, ...]
    band: bytes
    first: int | None


class CatalogBounds(NamedTuple):
    """What can be said of items only beside the others: the largest categories, and the prices that part the bands."""

    categories: frozenset[bytes]
    prices: tuple[float, float]


def bounds_of(rows: Iterable[Row]) -> CatalogBounds:
    """Of the catalogue's rows."""
    counts: Counter[bytes] = Counter()
    prices = []
    for row in rows:
        counts.update(set(row.get(names.CATEGORY, ())))
        prices += row.get(names.PRICE, [])
    largest = sorted(counts, key=lambda category: (-counts[category], category))[:CATEGORIES]
    low, high = np.quantile(prices, [1 / 3, 2 / 3]).tolist() if prices else (0.0, 0.0)
    return CatalogBounds(frozenset(largest), (low, high))


def item_slices(row: Row, bounds: CatalogBounds, snapshots: list[int]) -> tuple[bytes, ItemSlices]:
    """(item id, slices) of a row of the catalogue. `snapshots` are the moments of the row's popularity."""
    own = {c if c in bounds.categories else _OTHER for c in row.get(names.CATEGORY, ())} or {_NONE}
    price = row.get(names.PRICE, [])
    band = _BANDS[int(np.searchsorted(bounds.prices, price[0]))] if price else _NONE
    known = np.reshape(row[names.POPULARITY], [-1, len(snapshots)]).max(axis=0) > 0
    first = snapshots[int(known.argmax())] if known.any() else None
    return row[names.ITEM_ID][0], ItemSlices(tuple(sorted(own)), band, first)


def with_slices(example: Row, items: Mapping[bytes, ItemSlices]) -> Row:
    """An example of the eval split with the features that slices are named by (`names.SLICES`)."""
    now = example[names.TIMESTAMP][0]
    targets = [items[item] for item in example[names.TARGET_ITEM_IDS] if item in items]
    is_known = (item.first is not None and item.first <= now for item in targets)
    return {
        **example,
        names.WEEKDAY: [_DAYS[datetime.fromtimestamp(now, timezone.utc).weekday()]],
        names.TARGET_CATEGORY: sorted({category for item in targets for category in item.categories}),
        names.TARGET_PRICE: sorted({item.band for item in targets}),
        names.TARGET_AGE: sorted({_KNOWN if known else _NEW for known in is_known}),
    }


class Slices(beam.PTransform):
    """Expands {"eval": rows, "catalog": rows, "timeline": rows} into the eval rows with their slices."""

    def expand(self, rows: dict[str, beam.PCollection]) -> beam.PCollection:
        catalog = rows[names.CATALOG_SPLIT]
        # Of each row only what bounds need: neither texts nor embeddings.
        few = catalog | "Few" >> beam.Map(lambda row: {k: row.get(k, []) for k in (names.CATEGORY, names.PRICE)})
        bounds = few | "Together" >> beam.combiners.ToList() | "Bounds" >> beam.Map(bounds_of)
        snapshots = rows[names.TIMELINE_SPLIT] | "Moments" >> beam.Map(lambda row: row[names.SNAPSHOT_TIMESTAMPS])
        items = catalog | "ItemSlices" >> beam.Map(item_slices, AsSingleton(bounds), AsSingleton(snapshots))
        return rows[names.EVAL_SPLIT] | "WithSlices" >> beam.Map(with_slices, AsDict(items))


@component(use_beam=True)
def SliceGen(
    examples: InputArtifact[Examples],
    sliced_examples: OutputArtifact[Examples],
    code_version: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes the eval split of InteractionGen's examples once more, with `names.SLICES`."""
    sliced_examples.split_names = artifact_utils.encode_split_names([names.EVAL_SPLIT])
    splits = (names.EVAL_SPLIT, names.CATALOG_SPLIT, names.TIMELINE_SPLIT)
    with beam_pipeline as pipeline:
        rows = {split: pipeline | f"Read[{split}]" >> ReadRows(split_files(examples, split)) for split in splits}
        _ = rows | Slices() | write_split(sliced_examples, names.EVAL_SPLIT)
