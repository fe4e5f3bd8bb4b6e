import math

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from components.slice_gen import CATEGORIES, ItemSlices, Slices, bounds_of, item_slices, with_slices
from schema import names

DAY = 86_400
SNAPSHOTS = [10 * DAY, 20 * DAY]


def row(item, price=None, categories=(), popularity=(0.0, 0.0, 0.0, 0.0)):
    prices = {} if price is None else {names.PRICE: [price]}
    return {
        names.ITEM_ID: [item],
        names.CATEGORY: list(categories),
        names.POPULARITY: list(popularity),
        **prices,
    }


CATALOG = [
    row(b"cheap", 1.0, [b"a"], (0.0, 1.0, 0.0, 2.0)),  # had an event between the snapshots
    row(b"fair", 2.0, [b"a", b"b"], (1.0, 0.5, 1.0, 0.5)),  # before the first
    row(b"dear", 9.0, [b"b"]),  # none yet
    row(b"plain"),
]
BOUNDS = bounds_of(CATALOG)


def slices_of(item):
    return dict(item_slices(r, BOUNDS, SNAPSHOTS) for r in CATALOG)[item]


def test_items_by_price_category_and_first_event():
    assert slices_of(b"cheap") == ItemSlices((b"a",), b"low", 20 * DAY)
    assert slices_of(b"fair") == ItemSlices((b"a", b"b"), b"middle", 10 * DAY)
    assert slices_of(b"dear") == ItemSlices((b"b",), b"high", None)
    assert slices_of(b"plain") == ItemSlices((b"none",), b"none", None)


def test_small_categories_are_one_slice():
    catalog = [row(f"{n}-{i}".encode(), categories=[f"c{n:02}".encode()]) for n in range(30) for i in range(30 - n)]
    bounds = bounds_of(catalog)
    assert bounds.categories == {f"c{n:02}".encode() for n in range(CATEGORIES)}
    assert item_slices(row(b"x", categories=[b"c29"]), bounds, SNAPSHOTS)[1].categories == (b"other",)


def example(now, *targets):
    return {names.USER_ID: [b"u"], names.TIMESTAMP: [now], names.TARGET_ITEM_IDS: list(targets)}


def test_an_example_is_in_the_slices_of_each_of_its_targets():
    items = dict(item_slices(r, BOUNDS, SNAPSHOTS) for r in CATALOG)
    found = with_slices(example(15 * DAY, b"cheap", b"fair", b"gone"), items)
    assert found == {
        **example(15 * DAY, b"cheap", b"fair", b"gone"),
        names.WEEKDAY: [b"friday"],  # 1970-01-16
        names.TARGET_CATEGORY: [b"a", b"b"],
        names.TARGET_PRICE: [b"low", b"middle"],
        names.TARGET_AGE: [b"known", b"new"],  # what is first had between the snapshots is new at the 15th
    }
    assert with_slices(example(20 * DAY, b"cheap"), items)[names.TARGET_AGE] == [b"known"]


@pytest.mark.parametrize("price", [0.0, 1e9])
def test_a_catalogue_of_one_price_has_one_band(price):
    catalog = [row(b"x", price), row(b"y", price)]
    assert {item_slices(r, bounds_of(catalog), SNAPSHOTS)[1].band for r in catalog} == {b"low"}
    assert math.isfinite(bounds_of([]).prices[0])


def test_the_transform_joins_examples_with_the_catalogue():
    with TestPipeline() as pipeline:
        rows = {
            names.EVAL_SPLIT: pipeline | "eval" >> beam.Create([example(15 * DAY, b"dear")]),
            names.CATALOG_SPLIT: pipeline | "catalog" >> beam.Create(CATALOG),
            names.TIMELINE_SPLIT: pipeline | "timeline" >> beam.Create([{names.SNAPSHOT_TIMESTAMPS: SNAPSHOTS}]),
        }
        items = dict(item_slices(r, BOUNDS, SNAPSHOTS) for r in CATALOG)
        assert_that(rows | Slices(), equal_to([with_slices(example(15 * DAY, b"dear"), items)]))
