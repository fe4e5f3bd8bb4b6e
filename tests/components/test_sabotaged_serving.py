"""Spoilt models before ServingValidator: each is refused by the check that is meant for it, by name."""

import os
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from tfx.types.standard_artifacts import Examples

from components import serving_checks as checks
from components.serving_validator import validate
from pipeline.config import load_config
from schema import names
from serving.client import connect
from tests.conftest import SETTINGS
from tests.sabotage import FEED, spoil

pytestmark = pytest.mark.slow
NOBODY = {names.EXCLUDE_ITEM_IDS: tf.constant([[""]])}
EVERYTHING = {names.EXCLUDE_SEEN: tf.constant([False])}


def changed(output, change):
    """The answer with one output changed."""
    return lambda honest, inputs: {**(answer := honest(**inputs)), output: change(answer[output])}


def asked(more):
    """Asks the honest model for something else, where the signature can be asked for it."""
    return lambda honest, inputs: honest(**{**inputs, **{name: more[name] for name in more if name in inputs}})


def slowly(honest, inputs):
    """After multiplying that takes many times what an answer does, on a fast machine too."""
    answer = honest(**inputs)
    square = tf.random.stateless_normal([700, 700], [1, 2])
    _, square = tf.while_loop(lambda i, _: i < 40, lambda i, s: (i + 1, s @ s / tf.norm(s)), [0, square])
    return {**answer, names.SCORES: answer[names.SCORES] + 0.0 * square[0, 0]}


def other_each_time(scores):
    return scores + tf.sort(tf.random.uniform(tf.shape(scores)), direction="DESCENDING")


def call_python(scores):
    return tf.ensure_shape(tf.numpy_function(lambda s: s, [scores], tf.float32), [None, None])


SPOILT = {
    "scores that are NaN": (checks.FINITE, changed(names.SCORES, lambda s: s * np.float32("nan"))),
    "duplicates in the list": (
        checks.DUPLICATES,
        changed(names.ITEM_IDS, lambda ids: tf.repeat(ids[:, :1], tf.shape(ids)[1], axis=1)),
    ),
    "excluded items shown": (checks.LEFT_OUT, asked(NOBODY)),
    "owned items shown": (checks.OWNED, asked(EVERYTHING)),
    "worst first": (checks.ORDER, changed(names.SCORES, lambda s: s[:, ::-1])),
    "ids of another vocabulary": (checks.UNKNOWN, changed(names.ITEM_IDS, lambda ids: tf.strings.join(["x", ids]))),
    "empty lists": (checks.EMPTY, changed(names.ITEM_IDS, tf.zeros_like)),
    "propensities of nothing": (checks.PROPENSITIES, changed(names.PROPENSITIES, tf.zeros_like)),
    "another answer each time": (checks.OWN_ANSWERS, changed(names.SCORES, other_each_time)),
    "ten times slower": (checks.SLOWDOWN, slowly),
    "an op of Python": (checks.OPS, changed(names.SCORES, call_python)),
}


@pytest.fixture(scope="module")
def judged(shop):
    """(model) -> the results of all checks, with the shop's own model as the last pushed one."""
    examples = Examples()
    examples.uri = str(shop.artifact("InteractionGen", "examples"))
    examples.split_names = '["eval", "catalog"]'
    trained = str(shop.artifact("Trainer", "model") / "Format-Serving")
    serving = load_config(None, (*SETTINGS, "serving.requests=8")).serving

    def run(model, tmp_path, **bounds):
        settings = {**serving.model_dump(), **bounds}
        return validate(str(model), trained, examples, settings, connect, str(tmp_path))

    return run


def refused_by(results):
    return {check for check, faults in results.faults.items() if faults}


def test_the_honest_model_passes(judged, shop, tmp_path):
    results = judged(shop.version, tmp_path)
    assert refused_by(results) == set()
    assert set(results.faults) == set(checks.CHECKS)
    assert "embedded" in results.measured[checks.START]


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_feed_is_refused_by_its_check(judged, shop, tmp_path, what):
    check, how = SPOILT[what]
    model = spoil(shop.version, tmp_path / "model", dict.fromkeys(FEED, how))
    assert check in refused_by(judged(model, tmp_path))


def test_half_a_catalogue_is_refused(judged, shop, tmp_path):
    def half(honest, inputs):
        known = tf.strings.to_hash_bucket_fast(inputs[names.ITEM_ID], 2) == 0
        return {names.EMBEDDING: honest(**inputs)[names.EMBEDDING] * tf.cast(known, tf.float32)[:, tf.newaxis]}

    results = judged(spoil(shop.version, tmp_path / "model", {names.EMBED_ITEM: half}), tmp_path)
    assert refused_by(results) == {checks.CATALOG}
    assert "of 300 items have no embedding" in results.faults[checks.CATALOG][0]


def test_a_missing_signature_is_refused_before_anything_is_served(judged, shop, tmp_path):
    results = judged(spoil(shop.version, tmp_path / "model", {}, without=(names.SEARCH,)), tmp_path)
    assert refused_by(results) == {checks.SIGNATURES_CHECK} and checks.LATENCY not in results.faults


def test_a_model_that_is_too_large_for_its_files_or_its_memory_is_refused(judged, shop, tmp_path):
    results = judged(shop.version, tmp_path, max_model_mb=1)
    assert refused_by(results) == {checks.SIZE}
    assert refused_by(judged(shop.version, tmp_path, max_memory_mb=100)) == {checks.MEMORY}


def test_a_model_that_does_not_load_is_refused(judged, shop, tmp_path):
    shutil.copytree(shop.version, tmp_path / "model")
    for shard in (tmp_path / "model" / "variables").glob("*.data*"):
        shard.write_bytes(shard.read_bytes()[:100])
    results = judged(tmp_path / "model", tmp_path)
    assert refused_by(results) == {checks.START}
    assert "did not start" in results.faults[checks.START][0]


def test_the_stock_server_is_used_where_it_is_on_path(judged, shop, tmp_path, monkeypatch):
    """Where there is a program of that name: here one that starts the embedded server with the flags it is given."""
    program = tmp_path / "tensorflow_model_server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pipeline.cli serve "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    results = judged(shop.version, tmp_path)
    assert results.passed and results.measured[checks.START] == "tensorflow_model_server"
    embedded = judged(shop.version, tmp_path, server="embedded")
    assert embedded.passed and "embedded" in embedded.measured[checks.START]


def test_a_server_that_runs_already_is_given_the_model_and_rid_of_it(judged, shop, tmp_path):
    from serving.server import Flags, running_server

    folder = tmp_path / "candidates"
    shutil.copytree(shop.version, folder / "1")
    flags = Flags(-1, rest_api_port=-1, model_name=names.MODEL_NAME, model_base_path=str(folder))
    with running_server(flags) as (grpc_port, rest_port):
        remote = {"server": "remote", "grpc": f"grpc://localhost:{grpc_port}", "folder": str(folder)}
        results = judged(shop.version, tmp_path, **remote, rest=f"http://localhost:{rest_port}")
    assert refused_by(results) == set() and checks.MEMORY not in results.faults
    assert [path.name for path in folder.iterdir()] == ["1"]
