"""A changed catalogue is brought into the pushed model without training."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import load_config
from pipeline.local_runner import run_locally
from schema import names
from schema.errors import InputError
from schema.saved_model import ServableModel
from tests.conftest import SETTINGS
from trainer.weights import weights_folder

NEW, GONE = "P_NEW", "P000299"
TOLERANT = "gate.rules.unknown_item.max_share=0.1"  # an item that is gone was bought once
REINDEX = load_config(None, (*SETTINGS, TOLERANT, "model.start=reindex"))


def test_without_a_pushed_model_there_is_nothing_to_re_index(shop, tmp_path):
    with pytest.raises(InputError, match="holds no pushed model to re-index"):
        run_locally(REINDEX, shop.folders, str(tmp_path))


@pytest.mark.slow
def test_a_new_item_is_answered_for_without_training(shop, tmp_path, monkeypatch):
    workspace, catalog = tmp_path / "workspace", tmp_path / "catalog"
    shutil.copytree(shop.workspace, workspace)
    shutil.copytree(shop.catalog, catalog)
    (file,) = catalog.glob("*.csv")
    with file.open(encoding="utf-8", newline="") as content:
        rows = list(csv.DictReader(content))
    old = next(row for row in rows if row[names.ITEM_ID] == "P000007")
    rows = [row for row in rows if row[names.ITEM_ID] != GONE] + [{**old, names.ITEM_ID: NEW}]
    with file.open("w", encoding="utf-8", newline="") as content:
        writer = csv.DictWriter(content, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)

    def no_training(*_args, **_kwargs):
        raise AssertionError("trains")

    monkeypatch.setattr("trainer.tower_maker.train_towers", no_training)
    monkeypatch.setattr("trainer.fitting.train_ranker", no_training)
    outcome = run_locally(REINDEX, {**shop.folders, names.CATALOG: str(catalog)}, str(workspace))
    assert outcome.pushed is not None, outcome.refusals
    before, after = ServableModel(str(shop.version)), ServableModel(str(outcome.pushed))
    assert Path(weights_folder(str(outcome.pushed))).is_dir()  # so that it can be re-indexed again

    def vectors(model, items):
        return model(names.EMBED_ITEM, {names.ITEM_ID: np.array(items, object)})[names.EMBEDDING]

    known = ["P000001", "P000007", "P000100"]
    size = load_config(None, SETTINGS).model.dimensions
    # Prices are scaled by today's catalogue, so nothing is quite the same.
    assert vectors(after, known)[:, :size] == pytest.approx(vectors(before, known)[:, :size], abs=0.01)
    assert not vectors(before, [NEW]).any() and not vectors(after, [GONE]).any()
    similar = after(names.SIMILAR_ITEMS, {names.ITEM_ID: np.array([NEW], object)})
    # Its twin but for the id, among 300.
    assert b"P000007" in similar[names.ITEM_IDS][0][:5]
