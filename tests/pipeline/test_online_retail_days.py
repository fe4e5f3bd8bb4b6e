"""The anomalies of a real year of sales, counted exactly: Online Retail as the shop has it, beside plain pandas."""

import csv
import io
import zipfile

import pandas as pd
import pytest

from pipeline.config import load_config
from pipeline.data.online_retail import write_online_retail
from pipeline.data_checks import validate_folder
from tests.conftest import ONLINE_RETAIL, needs_online_retail

SETTINGS = (
    "columns.behaviors.title=string",
    "gate.expected.behaviors=[title]",
    r'gate.item_id_pattern="\\d{5}[A-Z]*"',
    "gate.rules.unknown_item.severity=warning",
)


def read_archive() -> pd.DataFrame:
    with zipfile.ZipFile(ONLINE_RETAIL) as file:
        rows = [
            row
            for member in sorted(name for name in file.namelist() if name.endswith(".csv"))
            for row in csv.DictReader(io.TextIOWrapper(file.open(member), encoding="utf-8", newline=""))
        ]
    log = pd.DataFrame(rows)
    log["item"] = log["StockCode"].str.strip().str.upper()
    log["quantity"] = log["Quantity"].astype(float)
    return log


@pytest.mark.slow
@needs_online_retail
def test_every_class_of_anomaly_is_found_with_pandas_counts(tmp_path):
    write_online_retail(str(tmp_path / "retail"), str(ONLINE_RETAIL), everything=True)
    outcome = validate_folder(load_config(None, SETTINGS), str(tmp_path / "retail"), str(tmp_path / "w"))
    found = {f["rule"]: f["count"] for f in outcome.findings if f["table"] == "behaviors"}

    log = read_archive()
    is_product = log["item"].str.fullmatch(r"\d{5}[A-Z]*")
    sold_to_somebody = log[is_product & (log["CustomerID"] != "")]["item"]
    same = ["CustomerID", "item", "InvoiceDate", "quantity"]
    expected = {
        "missing_user": (log["CustomerID"] == "").sum(),
        "missing_value": (log["Description"].str.strip() == "").sum(),
        "weightless_event": (log["quantity"] < 0).sum(),
        "odd_item_id": (~is_product).sum(),
        "duplicate_event": log.duplicated(same).sum(),
    }
    assert min(expected.values()) > 1_000
    assert {rule: found[rule] for rule in expected} == expected

    # What is taken out is taken out once, and nothing is lost.
    rest = log[(log["CustomerID"] != "") & is_product & (log["quantity"] >= 0)]
    rest = rest[~rest.duplicated(same)]
    parted = outcome.rows["behaviors"]
    assert parted["rows"] == len(log)
    assert parted["kept"] == rest["item"].isin(sold_to_somebody.unique()).sum()
    assert parted["rows"] == parted["kept"] + sum(n for rule, n in parted.items() if rule not in ("rows", "kept"))

    # Days are compared by the calendar: the shop's quiet ones, and the one order of 80,995 pieces.
    told = {f["rule"] for f in outcome.findings if f["severity"] == "warning"}
    assert {"few_rows", "missing_day"} <= told
    assert "scale_changed" not in {f["rule"] for f in outcome.findings}
