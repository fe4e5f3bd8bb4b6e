from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from components.input_folders import inspect_table, window_of
from schema import names
from schema.errors import InputError

HEADER = "user_id,item_id,event,timestamp\n"


def test_files_at_the_top_and_in_daily_folders(tmp_path):
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "a.csv").write_text(HEADER + "u,i,view,1\n")
    (tmp_path / "days" / "2025-01-01").mkdir(parents=True)
    (tmp_path / "days" / "2025-01-01" / "a.csv").write_text(HEADER + "u,i,view,1\n")
    assert list(inspect_table(tmp_path / "top", names.BEHAVIORS).spans) == [names.ALL_SPLIT]
    assert list(inspect_table(tmp_path / "days", names.BEHAVIORS).spans) == ["2025-01-01"]


def test_parquet_is_accepted(tmp_path):
    table = pa.table({"item_id": ["a"], "title": ["A"], "more": [1]})
    pa.parquet.write_table(table, tmp_path / "catalog.parquet")
    assert inspect_table(tmp_path, names.CATALOG).suffix == ".parquet"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"user_id,item_id,event\nu,i,view\n", ["a.csv", "no column timestamp"]),
        ("a.csv", b"", ["a.csv", "is empty"]),
        ("a.csv", HEADER.encode(), ["a.csv", "no rows"]),
        ("a.csv", b"user_id,item_id,event,timestamp,event\nu,i,view,1,view\n", ["a.csv", "event twice"]),
        ("a.csv", b"\xff\xfeuser_id\n", ["a.csv", "UTF-8"]),
        ("a.parquet", b"PAR1 but no more", ["a.parquet", "Parquet"]),
        ("a.parquet", b"", ["a.parquet", "Parquet"]),
        ("a.txt", b"hello", ["no .csv or .parquet"]),
    ],
)
def test_unusable_files_are_named_with_what_to_do(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        inspect_table(tmp_path, names.BEHAVIORS)
    assert error.value.exit_code == 2
    assert all(word in str(error.value) for word in [str(tmp_path), *words]), str(error.value)


def test_mixed_formats_and_missing_folders_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "u,i,view,1\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "b.csv").write_text(HEADER + "u,i,view,1\n")
    with pytest.raises(InputError, match="mixes"):
        inspect_table(tmp_path, names.BEHAVIORS)
    with pytest.raises(InputError, match="is not a folder"):
        inspect_table(tmp_path / "nowhere", names.BEHAVIORS)


def days_of(folder, *names_of_days):
    for name in names_of_days:
        (folder / name).mkdir(parents=True)
        (folder / name / "a.csv").write_text(HEADER + "u,i,view,1\n")
    return folder


def test_folders_are_days_in_their_order_and_nothing_else(tmp_path):
    table = inspect_table(days_of(tmp_path, "day=20250110", "2025-01-09"), names.BEHAVIORS)
    assert list(table.spans) == ["2025-01-09", "day=20250110"]
    days_of(tmp_path, "backup")
    with pytest.raises(InputError, match="backup: is not called after a day"):
        inspect_table(tmp_path, names.BEHAVIORS)


def test_a_day_under_two_names_is_refused(tmp_path):
    with pytest.raises(InputError, match="the same day as"):
        inspect_table(days_of(tmp_path, "20250110", "2025-01-10"), names.BEHAVIORS)


def test_a_window_is_of_calendar_days_up_to_the_last(tmp_path):
    table = inspect_table(days_of(tmp_path, "2025-01-01", "2025-01-08", "2025-01-10"), names.BEHAVIORS)
    assert [s.name for s in window_of(table, 3, f"{tmp_path}/memory.json")] == ["2025-01-08", "2025-01-10"]
    assert [s.name for s in window_of(table, 2, f"{tmp_path}/memory.json")] == ["2025-01-10"]
    assert [s.number for s in window_of(table, None, f"{tmp_path}/memory.json")] == [20089, 20096, 20098]


def test_a_day_s_fingerprint_is_of_its_content(tmp_path):
    log, memory = days_of(tmp_path / "log", "2025-01-01", "2025-01-02"), f"{tmp_path}/cache/memory.json"

    def window(known: str = memory):
        return window_of(inspect_table(log, names.BEHAVIORS), None, known)

    before = window()
    assert window() == window(f"{tmp_path}/no memory.json") == before
    file = log / "2025-01-02" / "a.csv"
    file.touch()
    assert window() == before
    file.write_text(HEADER + "u,i,view,2\n")
    first, second = window()
    assert first == before[0] and second != before[1]
    assert len(Path(memory).read_text().split("2025-01-02")) == 2  # what was there before is forgotten
