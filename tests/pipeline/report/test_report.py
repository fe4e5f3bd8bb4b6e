"""The page that a run leaves, of the small shop."""

import re

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from pipeline.cli import homefeed
from pipeline.lineage import Store
from pipeline.local_runner import metadata_of
from pipeline.report.facts import _columns, read_facts
from pipeline.report.lineage_graph import _depths, lineage_graph
from pipeline.report.page import render
from schema import names
from schema.errors import InputError
from tests.conftest import Shop


@pytest.fixture(scope="module")
def facts(shop: Shop):
    store = Store(metadata_of(shop.workspace))
    return read_facts(store, shop.workspace / "serving", store.run_of(int(shop.version.name)))


def test_a_run_leaves_one_file_that_needs_no_network(shop: Shop):
    html = min((shop.workspace / "reports").glob("*.html")).read_text(encoding="utf-8")  # other tests run more
    assert not re.findall(r"<(?:script|link|iframe|img)|src=|@import|url\((?!#)", html)
    assert {link for link in re.findall(r'href="([^"]*)"', html) if not link.startswith("#")} == set()
    assert html.count("<svg") >= 7 and "prefers-color-scheme: dark" in html


def test_it_tells_everything(shop: Shop, facts):
    html = render([facts])
    for anchor in ("verdicts", "evaluation", "data", "anomalies", "drift", "training", "index", "steps", "lineage"):
        assert f'<section id="{anchor}">' in html, anchor
    assert f"version {shop.version.name}" in html
    assert all(step.name in html for step in facts.steps)
    recall = facts.evaluation.metrics["all users"]["recall_at_20"]
    assert f"{recall:.4f}" in html


def test_its_figures_are_those_of_the_log(shop: Shop, facts):
    lines = [line for file in sorted(shop.behaviors.rglob("*.csv")) for line in file.read_text().splitlines()[1:]]
    assert sum(sum(events.values()) for events in facts.days.values()) == len(lines)
    assert facts.columns[names.BEHAVIORS][names.ITEM_ID].rows == len(lines)
    assert not facts.columns[names.BEHAVIORS][names.USER_ID].top  # ids of users stay out of pages
    assert all(step.peak_mb and step.peak_mb > 100 for step in facts.steps if step.state == "ran")
    exact, *points = facts.index
    assert exact["recall"] == 1 and [p["recall"] for p in points] == sorted(p["recall"] for p in points)
    assert set(facts.curves["windows"]) == {"loss", "learning_rate", "validation_ndcg_at_20"}


def test_two_runs_beside_each_other(facts):
    html = render([facts, facts])
    assert "beside" in html and "Both have the same." in html and html.count("Seconds of each step") >= 1


def test_what_the_data_holds_is_text(facts):
    facts.columns[names.CATALOG]["<script>alert(1)</script>"] = next(iter(facts.columns[names.CATALOG].values()))
    try:
        assert "<script>" not in render([facts])
    finally:
        del facts.columns[names.CATALOG]["<script>alert(1)</script>"]


def test_the_command_takes_versions_and_runs(shop: Shop, facts, tmp_path):
    out = tmp_path / "both.html"
    arguments = ["report", "--workspace", str(shop.workspace), "--compare", shop.version.name, facts.name]
    homefeed([*arguments, "--out", str(out)], standalone_mode=False)
    assert "beside" in out.read_text(encoding="utf-8")
    with pytest.raises(InputError, match="version 7 was not pushed"):
        homefeed(["report", "--workspace", str(shop.workspace), "--run", "7"], standalone_mode=False)
    with pytest.raises(InputError, match="yesterday: is no run of this workspace"):
        homefeed(["report", "--workspace", str(shop.workspace), "--run", "yesterday"], standalone_mode=False)


def test_days_are_summed():
    days = {}
    for number, (there, missing, mean) in enumerate([(3, 1, 2.0), (1, 0, 6.0)]):
        day = statistics_pb2.DatasetFeatureStatisticsList()
        feature = day.datasets.add().features.add()
        feature.path.step.append("value")
        feature.num_stats.common_stats.num_non_missing = there
        feature.num_stats.common_stats.num_missing = missing
        feature.num_stats.mean, feature.num_stats.min, feature.num_stats.max = mean, mean - 1, mean + 1
        days[f"2026-01-0{number + 1}"] = day
    column = _columns(days)["value"]
    assert (column.rows, column.missing, column.lowest, column.mean, column.highest) == (5, 1, 1.0, 3.0, 7.0)


def test_what_flows_into_a_step_stands_to_its_left():
    edges = [("a", "b"), ("b", "c"), ("a", "c")]
    assert _depths(["c", "b", "a"], edges) == {"a": 0, "b": 1, "c": 2}
    graph = lineage_graph({"a": "ran", "b": "cached", "c": "failed"}, [(*edge, "Examples") for edge in edges], "<run>")
    assert graph.count("<rect") == 3 and graph.count("<path") == 3 and "&lt;run&gt;" in graph
