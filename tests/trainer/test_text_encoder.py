import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from schema.errors import InputError
from tests.trainer.tiny_bert import SPECIAL, write_bert
from trainer.encoder_files import fingerprint, resolve_encoder
from trainer.text_encoder import load_encoder, open_encoder


@pytest.fixture(scope="module")
def folder() -> str:
    return resolve_encoder("")


@pytest.fixture(scope="module")
def encoder(folder):
    return load_encoder(folder, max_tokens=64)


def test_similarities_are_the_published_model_s(encoder):
    eating, bread, cheetah = encoder.encode(
        ["A man is eating food.", "A man is eating a piece of bread.", "A cheetah is running behind its prey."]
    )
    assert eating @ bread == pytest.approx(0.7553, abs=1e-3)
    assert eating @ cheetah == pytest.approx(0.1419, abs=1e-3)


def test_embeddings_do_not_depend_on_the_batch(encoder):
    texts = ["a cup", "", "杯子 红色", "word " * 500, "naïve café"]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_broken_utf8_is_read_with_replacements(encoder):
    assert np.isfinite(encoder.encode([b"caf\xe9"])).all()


def test_text_past_the_limit_is_not_read(folder):
    short = load_encoder(folder, max_tokens=8)
    same = short.encode(["one two three four five six", "one two three four five six seven eight"])
    assert np.abs(same[0] - same[1]).max() < 1e-6


def test_fingerprints_tell_encoders_apart(folder):
    assert fingerprint(folder, 64) == fingerprint(folder, 64) != fingerprint(folder, 32)


def test_a_folder_that_is_no_encoder_is_named(tmp_path, folder):
    with pytest.raises(InputError, match=r"config\.json: is missing"):
        resolve_encoder(str(tmp_path))
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        shutil.copy(f"{folder}/{name}", tmp_path)
    assert resolve_encoder(str(tmp_path)) == str(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    with pytest.raises(InputError, match="only bert"):
        open_encoder(str(tmp_path), 64)
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 100}))
    with pytest.raises(InputError, match="holds nothing that fits"):
        open_encoder(str(tmp_path), 64)


def test_a_changed_package_is_noticed(monkeypatch):
    monkeypatch.setattr("trainer.encoder_files._MINILM_SHA256", {"vocab.txt": "0" * 64})
    with pytest.raises(InputError, match="SHA-256"):
        resolve_encoder("")


def test_it_runs_inside_a_saved_model(tmp_path, folder, encoder):
    module = tf.Module()
    module.encoder = open_encoder(folder, 64)
    spec = [tf.TensorSpec([None], tf.string, name="text")]
    function = tf.function(lambda text: {"embedding": module.encoder(text)}, input_signature=spec)
    tf.saved_model.save(module, str(tmp_path), signatures=function)
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    found = loaded(text=tf.constant(["a red cup"]))["embedding"].numpy()
    assert np.abs(found - encoder.encode(["a red cup"])).max() < 1e-5


CHINESE = (*SPECIAL, *"红色杯子咖啡很好", "mug", "##s")


@pytest.fixture
def chinese(tmp_path) -> Path:
    """A BERT folder of one small random layer with a Chinese vocabulary."""
    write_bert(tmp_path, CHINESE[len(SPECIAL) :])
    return tmp_path


def test_chinese_is_read_character_by_character(chinese):
    encoder = load_encoder(str(chinese), max_tokens=16)
    texts = ["红色杯子", "红色 杯子", "咖啡mugs", "雪", ""]
    assert encoder.lengths(texts) == [6, 6, 6, 3, 2]
    red, spaced, _, unknown, nothing = encoder.encode(texts)
    assert np.abs(red - spaced).max() < 1e-6  # spaces between characters say nothing
    assert np.abs(red - unknown).max() > 1e-3 < np.abs(unknown - nothing).max()


def test_the_folder_says_how_tokens_become_one_vector(chinese):
    mean = load_encoder(str(chinese), 16).encode(["红色杯子"])
    before = fingerprint(str(chinese), 16)
    (chinese / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (chinese / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    encoder = open_encoder(str(chinese), 16)
    ids = tf.constant([[CHINESE.index(piece) for piece in ("[CLS]", *"红色杯子", "[SEP]")]])
    tokens = encoder.bert({"input_word_ids": ids, "input_mask": ids**0, "input_type_ids": ids * 0})["sequence_output"]
    expected = tf.math.l2_normalize(tokens[:, 0], axis=1).numpy()
    assert np.abs(encoder(tf.constant(["红色杯子"])).numpy() - expected).max() < 1e-6
    assert np.abs(expected - mean).max() > 1e-3
    assert fingerprint(str(chinese), 16) != before
    (chinese / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(InputError, match="pooling_mode_max_tokens"):
        open_encoder(str(chinese), 16)
