"""The training loop on a tiny model: resuming, stopping, keeping the best."""

import numpy as np
import pytest
import tensorflow as tf

from schema import names
from tests.trainer.shapes import DAY, catalog_of
from trainer.tower_training import train_towers
from trainer.two_tower import TwoTower

RATE = 0.01
ITEMS = 10


def towers():
    tf.keras.utils.set_random_seed(1)
    return TwoTower(catalog_of(ITEMS), np.ones(ITEMS, int), 3, 2, 4, 8, 0.1, 0.3, 4, 1)


def batches(epoch):
    random = np.random.default_rng(epoch)
    rows = {
        names.USER_INDEX: random.integers(0, 3, 64),
        names.TRAIT_INDICES: random.integers(-1, 9, (64, 2)),
        names.HISTORY_ITEMS: random.integers(-1, ITEMS, (64, 3)),
        names.HISTORY_EVENT_INDICES: random.integers(0, 2, (64, 3)),
        names.HISTORY_TIMESTAMPS: np.full((64, 3), 50 * DAY),
        names.TARGET_ITEMS: random.integers(0, ITEMS, 64),
        names.TIMESTAMP: np.full(64, 60 * DAY),
        names.WEIGHT: np.ones(64, np.float32),
    }
    return tf.data.Dataset.from_tensor_slices(rows).batch(16)


def weights_of(model):
    return [value.numpy() for value in model.trainable_variables]


def test_a_killed_training_ends_with_the_same_model(tmp_path):
    whole = towers()
    assert train_towers(whole, batches, RATE, 4, str(tmp_path / "whole")) == 4

    def killed(epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return batches(epoch)

    with pytest.raises(KeyboardInterrupt):
        train_towers(towers(), killed, RATE, 4, str(tmp_path / "killed"))
    resumed, asked = towers(), []

    def counted(epoch):
        asked.append(epoch)
        return batches(epoch)

    assert train_towers(resumed, counted, RATE, 4, str(tmp_path / "killed")) == 4
    assert set(asked) == {0, 2, 3}  # 0 only tells shapes and the number of steps
    for one, other in zip(weights_of(whole), weights_of(resumed), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_training_stops_when_validation_does_not_grow_and_keeps_the_best(tmp_path):
    model, seen = towers(), []
    figures = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.9])

    def validate():
        seen.append(weights_of(model))
        return next(figures)

    assert train_towers(model, batches, RATE, 10, str(tmp_path), validate) == 2
    assert len(seen) == 5
    for kept, best in zip(weights_of(model), seen[1], strict=True):
        assert (kept == best).all()


def test_curves_are_left_for_tensorboard(tmp_path):
    train_towers(towers(), batches, RATE, 1, str(tmp_path))
    assert list((tmp_path / "board").rglob("events.out.tfevents.*"))
