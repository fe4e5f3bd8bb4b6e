"""Days come one by one: only what is new is read, counted, judged and embedded; late data makes a new version."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from components.examples import decode_example
from pipeline.config import load_config
from pipeline.data.sample import write_sample
from pipeline.local_runner import run_locally
from schema import names
from tests.comparing import newest
from tests.conftest import SETTINGS

STEPS = ("examples", "statistics", "rows")


def done(workspace: Path, table: str = names.BEHAVIORS) -> dict[tuple[str, str, str], int]:
    """(step, day, key) of each piece of work in the store -> when it was written."""
    return {
        (step, path.parent.parent.name, path.parent.name): path.stat().st_mtime_ns
        for step in STEPS
        for path in (workspace / "cache" / step / table).glob("*/*/done.json")
    }


def run(shop: Path, workspace: Path, *assignments: str, until: str = "TextEmbeddingGen"):
    folders = {table: str(shop / table) for table in (names.BEHAVIORS, names.CATALOG)}
    return run_locally(load_config(None, (*SETTINGS, *assignments)), folders, str(workspace), until)


def embedded(workspace: Path) -> Counter:
    """How many texts were new, and how many known, in the newest run."""
    import tensorflow as tf

    folder = newest(workspace, "TextEmbeddingGen", "text_embeddings")
    counts = {}
    for kind in ("new", "known"):
        files = [str(p) for p in folder.glob(f"text_embeddings-{kind}*.gz")]
        counts[kind] = sum(1 for _ in tf.data.TFRecordDataset(files, compression_type="GZIP"))
    return Counter(counts)


def splits(workspace: Path) -> list[str]:
    return sorted(p.name.removeprefix("Split-") for p in newest(workspace, "BehaviorsRowValidator", "rows").iterdir())


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_sample(str(folder), events=2_000, users=60, products=80, days=10, seed=8)
    return folder


def test_days_come_one_by_one(shop, tmp_path):
    days = sorted(p.name for p in (shop / names.BEHAVIORS).iterdir())
    later = tmp_path / "later" / days[-1]
    mine, workspace = tmp_path / "shop", tmp_path / "w"
    shutil.copytree(shop, mine)
    shutil.copytree(mine / names.BEHAVIORS / days[-1], later)
    shutil.rmtree(mine / names.BEHAVIORS / days[-1])
    run(mine, workspace)
    before = done(workspace)
    assert {day for _, day, _ in before} == set(days[:-1]) and len(before) == 3 * (len(days) - 1)
    assert embedded(workspace)["known"] == 0 and embedded(workspace)["new"] >= 60

    # A day more, and an item more.
    shutil.copytree(later, mine / names.BEHAVIORS / days[-1])
    with (mine / names.CATALOG / "catalog.csv").open("a") as file:
        csv.writer(file).writerow(["P999999", "A thing never seen before", "", "", "1.0"])
    run(mine, workspace)
    after = done(workspace)
    assert {day for _, day, _ in after.keys() - before.keys()} == {days[-1]}
    assert {key: after[key] for key in before} == before
    assert embedded(workspace)["new"] == 1
    assert splits(workspace) == days

    # Late rows of a day: that day again, as a new version; what was made of its first version stays.
    late = mine / names.BEHAVIORS / days[2] / "late.csv"
    header, first = list(csv.reader((late.parent / "behaviors.csv").open()))[:2]
    row = {**dict(zip(header, first, strict=True)), names.USER_ID: "U000001", names.ITEM_ID: "P000001"}
    with late.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerow(row)
    run(mine, workspace)
    latest = done(workspace)
    assert {day for _, day, _ in latest.keys() - after.keys()} == {days[2]}
    versions = [
        json.loads(path.read_text())["version"]
        for path in (workspace / "cache" / "examples" / names.BEHAVIORS / days[2]).glob("*/done.json")
    ]
    assert sorted(versions) == [1, 2]
    assert embedded(workspace)["new"] == 0

    # A window that rolls: older days are not used, and nothing is read again.
    run(mine, workspace, "window.days=4")
    assert splits(workspace) == days[-4:]
    assert done(workspace) == latest

    # Another configuration is other work.
    run(mine, workspace, "window.days=1", "gate.max_events_per_hour=7", until="DataGate")
    assert {(step, day) for step, day, _ in done(workspace).keys() - latest.keys()} == {("rows", days[-1])}


def test_a_bad_day_is_put_aside_whole_and_the_others_go_on(shop, tmp_path):
    mine, workspace = tmp_path / "shop", tmp_path / "w"
    shutil.copytree(shop, mine)
    days = sorted(p.name for p in (mine / names.BEHAVIORS).iterdir())
    bad = mine / names.BEHAVIORS / days[-1] / "behaviors.csv"
    bad.write_text(bad.read_text().replace("\nU", "\n9-"))
    refused = run(mine, workspace, until="DataGate")
    assert not refused.blessed
    assert {f["rule"] for f in refused.findings if f["severity"] == "error"} == {"id_format_changed"}
    aside = run(mine, workspace, "gate.rules.id_format_changed.rows=quarantine")
    assert aside.blessed
    assert splits(workspace) == days[:-1]
    parted = aside.rows[names.BEHAVIORS]
    assert parted["rows"] == parted["kept"] + sum(n for rule, n in parted.items() if rule not in ("rows", "kept"))
    folder = newest(workspace, "BehaviorsRowValidator", "quarantine") / f"Split-{days[-1]}"
    assert parted["id_format_changed"] == len(quarantined(folder, b"id_format_changed")) > 100


def quarantined(folder: Path, reason: bytes) -> list[dict]:
    import tensorflow as tf

    files = [str(path) for path in folder.glob("*.gz")]
    dataset = tf.data.TFRecordDataset(files, compression_type="GZIP")
    rows = [decode_example(record) for record in dataset.as_numpy_iterator()]
    return [row for row in rows if row[names.REASON] == [reason]]
