"""Models that are worse, or too good, before the Evaluator's thresholds: each is refused by the one meant for it."""

import csv
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma

from components.evaluation_results import ALL, read_evaluation
from pipeline.config import load_config
from pipeline.data.sample import write_sample
from pipeline.evaluation import eval_config
from pipeline.local_runner import run_locally
from pipeline.sections.model import Channels
from schema import names
from tests.conftest import SETTINGS, Shop
from tests.sabotage import spoil

pytestmark = pytest.mark.slow
OWN = (*SETTINGS, "evaluation.min_users=20", "evaluation.thresholds.coverage.at_least=0.2")
POPULARITY_ALONE = tuple(
    f"ranking.channels.{channel}=false" for channel in Channels.model_fields if channel != "popularity"
)


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A shop with enough held-out users to tell a bad model from chance, its model pushed."""
    folder = tmp_path_factory.mktemp("larger")
    write_sample(str(folder / "data"), events=24_000, users=700, products=400, days=28, seed=5)
    shop = Shop(folder / "data" / names.BEHAVIORS, folder / "data" / names.CATALOG, folder / "w")
    outcome = run_locally(load_config(None, OWN), shop.folders, str(shop.workspace))
    assert outcome.pushed is not None, outcome.refusals
    return shop


def judged(shop, candidate, out):
    """TFMA as TFX's Evaluator runs it, with the shop's own model as the last pushed one."""
    config = tfma.utils.update_eval_config_with_defaults(
        eval_config(load_config(None, OWN).evaluation), has_baseline=True, rubber_stamp=True
    )
    paths = {tfma.CANDIDATE_KEY: candidate, tfma.BASELINE_KEY: shop.version}
    models = [
        tfma.default_eval_shared_model(str(paths[spec.name]), model_name=spec.name, eval_config=config)
        for spec in config.model_specs
    ]
    tfma.run_model_analysis(
        eval_shared_model=models,
        eval_config=config,
        data_location=f"{shop.artifact('SliceGen', 'sliced_examples')}/Split-eval/*.gz",
        output_path=str(out),
    )
    return read_evaluation(str(out))


def missed(evaluation):
    """(metric, slice, the kind of bound) of each threshold that is missed."""
    return {(c.metric, c.slice, " ".join(c.asked.split()[:3])) for c in evaluation.checks if not c.passed}


DROP, MOST = "a drop of", "at most 0.95"
RECALL, CHANGE = "recall_at_20", "recall_at_20_change"


def spoilt_ranks(change):
    """`evaluate` with the ranks changed; `change` gets ranks, the size of the catalogue and the serialized examples."""

    def answer(honest, inputs):
        told = honest(**inputs)
        size = tf.cast(told[names.CATALOG_SIZE][:, tf.newaxis], tf.int64)
        ranks = change(told[names.RANKS], size, inputs[names.EXAMPLES])
        return {**told, names.RANKS: tf.where(told[names.RANKS] > 0, ranks, 0)}

    return answer


def leaking(ranks, size, examples):
    return tf.cumsum(tf.ones_like(ranks), axis=1)


def collapsed(ranks, size, examples):
    return tf.broadcast_to(size, tf.shape(ranks))


def without_half(ranks, size, examples):
    targets = tf.io.parse_example(examples, {names.TARGET_ITEM_IDS: tf.io.RaggedFeature(tf.string)})
    ids = targets[names.TARGET_ITEM_IDS].to_tensor("", shape=[None, None])[:, : tf.shape(ranks)[1]]
    return tf.where(tf.strings.to_hash_bucket_fast(ids, 2) == 0, ranks, tf.broadcast_to(size, tf.shape(ranks)))


def without_light_users(ranks, size, examples):
    activity = tf.io.parse_example(examples, {names.ACTIVITY: tf.io.FixedLenFeature([1], tf.string)})[names.ACTIVITY]
    return tf.where(activity == "light", tf.broadcast_to(size, tf.shape(ranks)), ranks)


def the_same_for_all(honest, inputs):
    told = honest(**inputs)
    places = tf.range(names.EVALUATED_PLACES, dtype=tf.int64)
    return {**told, names.TOP_ITEMS: tf.broadcast_to(places, tf.shape(told[names.TOP_ITEMS]))}


SPOILT = {
    "leaks the target": (spoilt_ranks(leaking), (RECALL, ALL, MOST)),
    "one score for everything": (spoilt_ranks(collapsed), (RECALL, ALL, DROP)),
    "half of the catalogue missing": (spoilt_ranks(without_half), (RECALL, ALL, DROP)),
    "one slice destroyed": (spoilt_ranks(without_light_users), (RECALL, "activity=light", DROP)),
    "the same list for everybody": (the_same_for_all, ("coverage_at_20", ALL, "at least 0.2")),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_model_is_refused_by_its_threshold(larger, tmp_path, what):
    how, (metric, where, asked) = SPOILT[what]
    evaluation = judged(larger, spoil(larger.version, tmp_path / "model", {names.EVALUATE: how}), tmp_path / "out")
    metric = f"{metric}_change" if asked == DROP else metric
    assert (metric, where, asked) in missed(evaluation)
    assert not evaluation.passed


def test_the_same_model_passes_beside_itself(larger, tmp_path):
    evaluation = judged(larger, larger.version, tmp_path / "out")
    assert evaluation.passed and evaluation.has_baseline and not missed(evaluation)
    assert evaluation.metrics[ALL][CHANGE] == 0.0


@pytest.fixture
def workspace(larger, tmp_path):
    shutil.copytree(larger.workspace, tmp_path / "w", ignore=shutil.ignore_patterns(".lock"))
    return tmp_path / "w"


def rerun(folders, workspace, *settings):
    outcome = run_locally(load_config(None, (*OWN, *settings)), folders, str(workspace))
    assert outcome.pushed is None
    return missed(outcome.evaluation)


def test_a_model_that_only_knows_what_is_popular_is_refused(larger, workspace):
    assert (CHANGE, ALL, DROP) in rerun(larger.folders, workspace, *POPULARITY_ALONE)


def test_a_model_that_was_hardly_trained_is_refused(larger, workspace):
    keys = ("learning_rate=1.0e-7", "epochs=1")
    barely = tuple(f"{section}.{key}" for section in ("model", "ranking") for key in keys)
    assert (CHANGE, ALL, DROP) in rerun(larger.folders, workspace, *barely)


def test_a_model_of_a_log_whose_items_were_shuffled_is_refused(larger, workspace, tmp_path):
    """All but the last tenth of the rows, which is held out, have somebody else's item."""
    shutil.copytree(larger.behaviors, tmp_path / "shuffled")
    files = sorted((tmp_path / "shuffled").rglob("*.csv"))
    tables = [list(csv.reader(file.open(encoding="utf-8", newline=""))) for file in files]
    column = tables[0][0].index(names.ITEM_ID)
    rows = [row for table in tables for row in table[1:]]
    early = rows[: int(0.85 * len(rows))]
    for row, item in zip(early, np.random.default_rng(1).permutation([row[column] for row in early]), strict=True):
        row[column] = str(item)
    for file, table in zip(files, tables, strict=True):
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows(table)
    folders = {**larger.folders, names.BEHAVIORS: str(tmp_path / "shuffled")}
    # What is popular is popular in a shuffled log, so that Recall over everybody may fall by less than is sure.
    assert ("ndcg_at_20_change", ALL, DROP) in rerun(folders, workspace)
