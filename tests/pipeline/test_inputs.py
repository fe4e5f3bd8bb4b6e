import pyarrow as pa
import pyarrow.parquet
import pytest

from pipeline.inputs import inspect_table
from schema import names
from schema.errors import InputError

HEADER = "user_id,item_id,event,timestamp\n"


def test_files_at_the_top_and_in_daily_folders(tmp_path):
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "a.csv").write_text(HEADER + "u,i,view,1\n")
    (tmp_path / "days" / "2025-01-01").mkdir(parents=True)
    (tmp_path / "days" / "2025-01-01" / "a.csv").write_text(HEADER + "u,i,view,1\n")
    assert inspect_table(tmp_path / "top", names.BEHAVIORS).pattern == "*.csv"
    assert inspect_table(tmp_path / "days", names.BEHAVIORS).pattern == "*/*.csv"


def test_parquet_is_accepted(tmp_path):
    table = pa.table({"item_id": ["a"], "title": ["A"], "more": [1]})
    pa.parquet.write_table(table, tmp_path / "catalog.parquet")
    assert inspect_table(tmp_path, names.CATALOG).pattern == "*.parquet"


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
