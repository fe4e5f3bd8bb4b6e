"""Training the encoder along with the towers, on a small random BERT."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from schema.errors import InputError
from tests.trainer.shapes import catalog_of
from tests.trainer.test_tower_training import batches
from tests.trainer.tiny_bert import write_bert
from trainer.text_encoder import open_encoder
from trainer.text_tuning import TunedTexts
from trainer.tower_training import train_towers
from trainer.two_tower import TwoTower

ITEMS = 10
WORDS = ("red", "blue", "mug", "lamp", "old")
SETTINGS = {"last_n": 1, "lora_rank": 2, "recompute": False}
MODES = ("last_n", "lora", "full")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), WORDS, layers=2)


def texts_of(count):
    random = np.random.default_rng(0)
    return np.array([" ".join(random.choice(WORDS, n % 4 + 1)).encode() for n in range(count)], object)


def tuned_of(folder, **changes):
    tf.keras.utils.set_random_seed(1)
    return TunedTexts(open_encoder(folder, 16), texts_of(ITEMS), {**SETTINGS, **changes})


def towers_of(tuned):
    catalog = dataclasses.replace(catalog_of(ITEMS), texts=texts_of(ITEMS), text_embeddings=tuned.table.numpy())
    return TwoTower(catalog, np.ones(ITEMS, int), 3, 2, 4, 8, 0.1, 0.3, 4, 1, contents=[tuned])


def train(folder, path, **changes):
    """(the untrained encoder's weights by name, the trained texts)."""
    tuned = tuned_of(folder, **changes)
    before = {variable.name: variable.numpy() for variable in tuned.encoder.bert.variables}
    train_towers(towers_of(tuned), batches, 0.01, 2, str(path), encoder_rate=0.01)
    return before, tuned


@pytest.mark.parametrize("mode", MODES)
def test_the_table_begins_as_the_encoder_reads(folder, mode):
    tuned = tuned_of(folder, mode=mode)
    expected = open_encoder(folder, 16)(tf.constant(texts_of(ITEMS).tolist())).numpy()
    assert tuned.table.numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_training_moves_the_chosen_weights_and_no_others(folder, tmp_path, mode):
    before, tuned = train(folder, tmp_path, mode=mode)
    after = {variable.name: variable.numpy() for variable in tuned.encoder.bert.variables}
    moved = {name for name, value in before.items() if not np.array_equal(value, after[name])}
    lower = {name for name in before if "layer_0" in name or "embedding" in name}
    pooler = {name for name in before if "pooler" in name}
    if mode == "full":
        assert moved >= {name for name in before if name.endswith("kernel:0")} - pooler
    elif mode == "last_n":
        assert moved and not moved & lower
        assert all("layer_1" in name for name in moved)
    else:
        assert moved == {"down:0", "up:0"}  # the additions
    assert not moved & pooler
    assert len({variable.ref() for variable in tuned.slow}) == len(tuned.slow)
    assert tuned.table.numpy() == pytest.approx(tuned.fresh(tf.range(ITEMS, dtype=tf.int64)).numpy(), abs=1e-5)


def test_a_step_moves_the_encoder_through_its_targets_only(folder):
    tuned = tuned_of(folder, mode="full")
    model = towers_of(tuned)
    batch = next(iter(batches(0)))
    read = []
    tuned.fresh = lambda items, fresh=tuned.fresh: read.append(items.numpy()) or fresh(items)
    model.compute_loss(batch, training=True)
    assert sorted(read[0]) == sorted(set(batch["target_items"].numpy().tolist()))


def test_recomputed_activations_give_the_same_training(folder, tmp_path):
    _, plain = train(folder, tmp_path / "plain", mode="full")
    _, recomputed = train(folder, tmp_path / "recomputed", mode="full", recompute=True)
    assert recomputed.table.numpy() == pytest.approx(plain.table.numpy(), abs=1e-4)


def test_bfloat16_computes_and_keeps_float32_weights(folder):
    tf.keras.utils.set_random_seed(1)
    tuned = TunedTexts(open_encoder(folder, 16, "mixed_bfloat16"), texts_of(ITEMS), {**SETTINGS, "mode": "lora"})
    assert tuned.table.dtype == tf.float32
    assert {variable.dtype for variable in tuned.slow} == {tf.float32}
    plain = tuned_of(folder, mode="lora").table.numpy()
    assert 0 < np.abs(tuned.table.numpy() - plain).max() < 0.05
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_more_layers_than_there_are_is_told(folder):
    with pytest.raises(InputError, match=r"encoder.last_n: is 3; the encoder has 2 layers"):
        tuned_of(folder, mode="last_n", last_n=3)
