"""The Tuner's place in the DAG: Trainer takes what it found."""

import json

import pytest

from pipeline.config import load_config
from pipeline.local_runner import run_locally
from tests.comparing import newest
from tests.conftest import SETTINGS


@pytest.mark.slow
def test_trainer_takes_what_the_tuner_found(shop, tmp_path):
    config = load_config(None, (*SETTINGS, "tuner.trials=2", "model.epochs=1"))
    run_locally(config, shop.folders, str(tmp_path), until="Trainer")
    (found,) = newest(tmp_path, "Tuner", "best_hyperparameters").glob("*.txt")
    best = json.loads(found.read_text())["values"]
    assert set(best) == {"learning_rate", "temperature", "dropout", "dimensions"}
    from trainer import weights
    from trainer.weights import weights_folder

    arrays = weights.load(weights_folder(str(newest(tmp_path, "Trainer", "model") / "Format-Serving")))
    items = len(arrays["cut"]["items"])
    tables = {value.shape for value in arrays["cut"].values() if value.ndim == 2 and len(value) == items}
    assert (items, best["dimensions"]) in tables
