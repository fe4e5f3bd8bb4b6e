"""SavedModels as text encoders, as TensorFlow Hub has them."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from schema.errors import InputError
from tests.trainer.test_text_tuning import ITEMS, SETTINGS, WORDS, texts_of, towers_of
from tests.trainer.test_tower_training import batches
from tests.trainer.tiny_bert import write_bert
from trainer.encoder_files import fingerprint, resolve_encoder
from trainer.text_encoder import load_encoder, open_encoder
from trainer.text_tuning import TunedTexts
from trainer.tower_training import train_towers

TEXTS = ["red mug", "Old LAMP", ""]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(a Hugging Face-style BERT, the same as a SavedModel with its vocabulary, a model that takes sentences)."""
    root = tmp_path_factory.mktemp("encoders")
    plain = write_bert(root / "plain", WORDS, layers=2)
    encoder = open_encoder(plain, 16)
    inputs = {
        name: tf.keras.Input([None], dtype=tf.int32, name=name)
        for name in ("input_word_ids", "input_mask", "input_type_ids")
    }
    core = tf.keras.Model(inputs, {"sequence_output": encoder.bert(inputs)["sequence_output"]})
    encoder.bert.trainable = True
    core.vocab_file = tf.saved_model.Asset(f"{plain}/vocab.txt")
    core.do_lower_case = tf.Variable(True, trainable=False)
    core.save(str(root / "pieces"), include_optimizer=False, save_format="tf")

    sentences = tf.Module()
    sentences.encoder = encoder
    sentences.__call__ = tf.function(
        lambda texts: 3.0 * encoder(texts), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    tf.saved_model.save(sentences, str(root / "sentences"))
    return plain, str(root / "pieces"), str(root / "sentences")


@pytest.mark.parametrize("kind", [1, 2])
def test_both_kinds_embed_as_the_model_that_they_were_saved_from(folders, kind):
    expected = load_encoder(folders[0], 16).encode(TEXTS)
    assert resolve_encoder(folders[kind]) == folders[kind]
    encoder = load_encoder(folders[kind], 16)
    assert encoder.encode(TEXTS) == pytest.approx(expected, abs=1e-5)
    assert len(encoder.lengths(TEXTS)) == 3


@pytest.mark.parametrize("kind", [1, 2])
def test_they_can_be_served(folders, tmp_path, kind):
    module = tf.Module()
    module.encoder = open_encoder(folders[kind], 16)
    spec = [tf.TensorSpec([None], tf.string, name="text")]
    tf.saved_model.save(
        module,
        str(tmp_path),
        signatures=tf.function(lambda text: {"vector": module.encoder(text)}, input_signature=spec, autograph=False),
    )
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](text=tf.constant(TEXTS))["vector"]
    assert served.numpy() == pytest.approx(load_encoder(folders[0], 16).encode(TEXTS), abs=1e-5)


def test_word_piece_models_can_be_trained_whole(folders, tmp_path):
    tuned = TunedTexts(open_encoder(folders[1], 16), texts_of(ITEMS), {**SETTINGS, "mode": "full"})
    before = [variable.numpy() for variable in tuned.slow]
    assert before
    train_towers(towers_of(tuned), batches, 0.01, 1, str(tmp_path), encoder_rate=0.01)
    assert not all(np.array_equal(value, now.numpy()) for value, now in zip(before, tuned.slow, strict=True))


@pytest.mark.parametrize(
    ("kind", "mode", "words"), [(1, "lora", "cannot be told apart"), (2, "full", "only be `frozen`")]
)
def test_what_cannot_be_trained_is_told(folders, kind, mode, words):
    with pytest.raises(InputError, match=words):
        TunedTexts(open_encoder(folders[kind], 16), texts_of(ITEMS), {**SETTINGS, "mode": mode})


def test_a_savedmodel_of_another_kind_is_named(tmp_path):
    module = tf.Module()
    module.__call__ = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "other"))
    with pytest.raises(InputError, match="takes neither sentences"):
        open_encoder(str(tmp_path / "other"), 16)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no proto")
    with pytest.raises(InputError, match="does not load"):
        open_encoder(str(tmp_path / "broken"), 16)


def test_fingerprints_are_of_every_file(folders):
    before = fingerprint(folders[1], 16)
    variables = next(Path(folders[1]).glob("variables/*.data*"))
    content = variables.read_bytes()
    variables.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert fingerprint(folders[1], 16) != before
    variables.write_bytes(content)
    assert fingerprint(folders[1], 16) == before
