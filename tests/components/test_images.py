import numpy as np
import pytest
import tensorflow as tf

from components.images import EMBEDDING, FILE, SIDE, image_features
from schema import names
from schema.errors import InputError


def test_numbers_are_read_however_they_are_parted():
    for value in (b"0.5 -2 1e3", b"0.5,-2,1e3", b"0.5; -2;1e3 "):
        assert image_features(b"i", value, EMBEDDING, "") == {names.IMAGE_EMBEDDING: [0.5, -2.0, 1000.0]}


def test_an_item_without_an_image_and_a_run_without_images_have_none():
    assert image_features(b"i", b"", EMBEDDING, "") == image_features(b"i", b"a.png", "none", "") == {}


@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
def test_a_file_becomes_a_thumbnail(tmp_path, encode):
    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[:, 80:] = 200  # the right half is grey
    (tmp_path / "a.img").write_bytes(encode(pixels).numpy())
    (thumbnail,) = image_features(b"i", b"a.img", FILE, str(tmp_path))[names.IMAGE]
    small = np.frombuffer(thumbnail, np.uint8).reshape(SIDE, SIDE, 3).astype(int)
    assert small[:, : SIDE // 2 - 1].max() <= 4 and small[:, SIDE // 2 + 1 :].min() >= 196


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (b"0.5 red", EMBEDDING, "item i: its image is no list of numbers"),
        (b"missing.png", FILE, "missing.png cannot be read as an image"),
        (b"text.png", FILE, "text.png cannot be read as an image"),
    ],
)
def test_what_is_no_image_is_named_with_its_item(tmp_path, value, kind, words):
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(InputError, match=words):
        image_features(b"i", value, kind, str(tmp_path))
