"""Images in the candidate tower."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from schema.errors import InputError
from tests.trainer.shapes import catalog_of
from tests.trainer.test_tower_training import ITEMS, RATE, batches
from trainer.contents import Content, TrainedImages
from trainer.data import _images
from trainer.tower_training import train_towers
from trainer.two_tower import TwoTower


def images_of(count):
    return np.random.default_rng(4).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def towers_of(contents):
    tf.keras.utils.set_random_seed(1)
    return TwoTower(catalog_of(ITEMS), np.ones(ITEMS, int), 3, 2, 4, 8, 0.1, 0.3, ITEMS, 1, contents=contents)


def test_the_network_learns_and_the_table_is_what_it_makes(tmp_path):
    tf.keras.utils.set_random_seed(1)
    images = TrainedImages(images_of(ITEMS), 8)
    model = towers_of([Content(catalog_of(ITEMS).text_embeddings), images])
    before = [variable.numpy() for variable in images._network.trainable_variables]
    own = {variable.ref() for variable in model.tower_variables()}
    assert {variable.ref() for variable in images._network.trainable_variables} <= own
    assert not model.encoder_variables()
    train_towers(model, batches, RATE, 1, str(tmp_path))
    for variable, value in zip(images._network.trainable_variables, before, strict=True):
        assert not np.array_equal(variable.numpy(), value), variable.name
    everything = tf.range(ITEMS, dtype=tf.int64)
    assert images.table.numpy() == pytest.approx(images.fresh(everything).numpy(), abs=1e-5)


def test_images_place_items(tmp_path):
    """Two items that differ in their image alone are two."""
    catalog = catalog_of(ITEMS)
    twins = dataclasses.replace(
        catalog,
        text_embeddings=np.tile(catalog.text_embeddings[:1], (ITEMS, 1)),
        categories=np.zeros_like(catalog.categories),
        prices=np.zeros_like(catalog.prices),
    )
    vectors = np.eye(ITEMS, dtype=np.float32)
    vectors[1] = vectors[0]
    contents = [Content(twins.text_embeddings), Content(vectors)]
    tf.keras.utils.set_random_seed(1)
    model = TwoTower(twins, np.zeros(ITEMS, int), 3, 2, 4, 8, 0.1, 0.3, ITEMS, 1, contents=contents)
    placed = model.candidate_tower(tf.range(ITEMS, dtype=tf.int64)).numpy()
    assert placed[0] == pytest.approx(placed[1])
    assert not np.allclose(placed[0], placed[2])


def row(pixels=(), embedding=()):
    return {"image": np.array(pixels, object), "image_embedding": np.array(embedding, np.float32)}


def test_items_without_an_image_are_zeros_and_none_is_none():
    assert _images([row(), row()]) is None
    embeddings = _images([row(), row(embedding=[1, 2])])
    assert embeddings.tolist() == [[0, 0], [1, 2]]
    pixels = _images([row(pixels=[bytes(range(12))]), row()])
    assert pixels.shape == (2, 2, 2, 3) and pixels[0].ravel().tolist() == list(range(12)) and not pixels[1].any()
    with pytest.raises(InputError, match="different lengths"):
        _images([row(embedding=[1]), row(embedding=[1, 2])])
