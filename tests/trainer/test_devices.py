"""Several devices train one model: two logical processors, in a process of their own since they are parted once."""

import subprocess
import sys

import pytest

from trainer import devices

SCRIPT = """
import sys
import schema  # sets Keras 2
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from tests.trainer.shapes import catalog_of
from tests.trainer.test_tower_training import ITEMS, RATE, batches
from trainer.tower_training import train_towers
from trainer.two_tower import TwoTower


def trained(strategy, folder):
    tf.keras.utils.set_random_seed(1)
    with strategy.scope():
        model = TwoTower(catalog_of(ITEMS), np.ones(ITEMS, int), 3, 2, 4, 8, 0.1, 0.0, ITEMS, 1)
    assert train_towers(model, batches, RATE, 2, f"{sys.argv[1]}/{folder}") == 2
    return {name: variable.numpy() for name, variable in model.learned().items()}


one = trained(tf.distribute.get_strategy(), "one")
both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert both.num_replicas_in_sync == 2
two = trained(both, "two")
for name, value in one.items():
    assert np.allclose(value, two[name], atol=1e-4), (name, np.abs(value - two[name]).max())
print("equal")
"""


@pytest.mark.slow
def test_two_devices_train_as_one_does(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.strip().endswith("equal"), done.stderr[-2000:]


def test_a_machine_without_a_gpu_trains_on_its_processors():
    assert devices.strategy().num_replicas_in_sync == 1
    assert devices.precision("auto") == "float32"


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "mixed_bfloat16"), ((7, 0), "float32")])
def test_bfloat16_is_taken_where_the_chip_has_it(monkeypatch, capability, expected):
    """The one answer of TensorFlow's that no machine without a GPU gives."""
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: ["GPU"])
    monkeypatch.setattr(
        "tensorflow.config.experimental.get_device_details", lambda gpu: {"compute_capability": capability}
    )
    assert devices.precision("auto") == expected
    assert devices.precision("float32") == "float32"
