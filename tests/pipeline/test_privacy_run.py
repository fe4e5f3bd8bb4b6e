"""A planted identifier is in no artifact, no log and no metadata of a run, and neither is the key."""

import csv
import gzip
from pathlib import Path

import pytest

from components.examples import decode_example
from pipeline.config import load_config
from pipeline.data.sample import write_sample
from pipeline.local_runner import run_locally
from schema import names
from schema.errors import InputError
from schema.privacy import KEY_VARIABLE, pseudonym
from tests.conftest import SETTINGS

PLANTED = "alice.smith@example.com"
RARE = "Liechtenstein"
KEY = "a-secret-that-is-long-enough"
PRIVATE = ("privacy.hash_user_ids=true", "privacy.drop_columns=[comment]", "privacy.suppress.country=5")


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A shop one of whose users is called by their address, who writes it into comments, and lives in a small place."""
    folder = tmp_path_factory.mktemp("shop")
    write_sample(str(folder), events=3_000, users=80, products=80, days=10, seed=9)
    users = set()
    for path in (folder / names.BEHAVIORS).glob("*/*.csv"):
        text = path.read_text().replace("U000000", PLANTED)
        path.write_text(text.replace("Lovely, would buy again.", f"Write to {PLANTED}"))
        users |= {row[names.USER_ID] for row in csv.DictReader(path.open())} - {""}
    assert PLANTED in users
    (folder / names.USERS).mkdir()
    with (folder / names.USERS / "users.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([names.USER_ID, names.COUNTRY, names.AGE])
        writer.writerows([user, RARE if user == PLANTED else "France", 40] for user in sorted(users))
    return folder


def everything(workspace: Path) -> dict[str, bytes]:
    """The content of every file, decompressed where it is compressed."""
    found = {}
    for path in workspace.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found[str(path)] = content + (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else b"")
    return found


def run(shop: Path, workspace: Path, until: str | None):
    folders = {table: str(shop / table) for table in names.TABLES}
    return run_locally(load_config(None, (*SETTINGS, *PRIVATE)), folders, str(workspace), until)


@pytest.mark.parametrize("until", ["Transform", pytest.param(None, marks=pytest.mark.slow)])
def test_a_planted_identifier_is_nowhere_in_a_run(shop, tmp_path, monkeypatch, until):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    outcome = run(shop, tmp_path / "w", until)
    assert outcome.blessed
    files = everything(tmp_path / "w")
    hashed = pseudonym(PLANTED.encode(), KEY.encode())
    assert any(hashed in content for content in files.values())
    for secret in (PLANTED, RARE, KEY):
        holders = [name for name, content in files.items() if secret.encode() in content]
        assert holders == []
    if until is None:
        (version,) = [p for p in (tmp_path / "w" / "serving" / names.MODEL_NAME).iterdir() if p.name.isdecimal()]
        assert hashed.decode() in (version / "assets" / "user_ids.txt").read_text().split()


def test_the_planted_identifier_is_there_without_privacy(shop, tmp_path):
    folders = {table: str(shop / table) for table in names.TABLES}
    run_locally(load_config(None, SETTINGS), folders, str(tmp_path / "w"), "DataGate")
    assert any(PLANTED.encode() in content for content in everything(tmp_path / "w").values())


def test_another_key_makes_other_users(shop, tmp_path, monkeypatch):
    found = []
    for key in (KEY, KEY + "!"):
        monkeypatch.setenv(KEY_VARIABLE, key)
        run(shop, tmp_path / "w", "UsersRowValidator")
        rows = max((tmp_path / "w" / "artifacts" / "UsersRowValidator" / "rows").iterdir(), key=lambda p: int(p.name))
        found.append({user for path in rows.glob("*/*.gz") for user in users_of(path)})
    assert found[0] and not found[0] & found[1]


def users_of(path: Path) -> set[bytes]:
    import tensorflow as tf

    dataset = tf.data.TFRecordDataset([str(path)], compression_type="GZIP")
    return {decode_example(record)[names.USER_ID][0] for record in dataset.as_numpy_iterator()}


def test_without_a_key_nothing_is_read(shop, tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(InputError, match=KEY_VARIABLE):
        run(shop, tmp_path / "w", "DataGate")
    assert not (tmp_path / "w" / "artifacts").exists()
