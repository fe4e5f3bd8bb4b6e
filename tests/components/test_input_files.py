"""Input files in a bucket are read like those of a folder."""

import pytest

from components.columnar import rows_of
from components.input_files import base_of, folder_exists, list_files, open_file
from components.input_folders import inspect_table, window_of
from components.table_reader import read_batches
from schema import names
from schema.errors import InputError
from tests.bucket import BUCKET

HEADER = "user_id,item_id,event,timestamp\n"
LOG = f"gs://{BUCKET}/log"


def put(objects, **days):
    for day, rows in days.items():
        objects[f"log/{day.replace('_', '-').lstrip('d')}/a.csv"] = (HEADER + rows).encode()


def test_a_bucket_s_files_are_those_of_the_same_folder(bucket, tmp_path):
    put(bucket, d2025_01_01="u,i,view,1\n", d2025_01_02="u,i,view,2\nv,i,view,3\n")
    bucket["log/"] = bucket["log/2025-01-02/"] = b""  # a console's folders
    bucket["log/2025-01-02/notes.txt"] = bucket["logs/b.csv"] = b"none of it"
    for name, content in bucket.items():
        if not name.endswith("/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    there, here = (inspect_table(folder, names.BEHAVIORS) for folder in (f"{LOG}/", tmp_path / "log"))
    assert (there.base, there.suffix, list(there.spans)) == (LOG, ".csv", ["2025-01-01", "2025-01-02"])
    memories = [f"{tmp_path}/{name}.json" for name in ("there", "here")]
    assert window_of(there, None, memories[0]) == window_of(here, None, memories[1])
    columns = {name: names.COLUMNS[names.BEHAVIORS][name] for name in names.REQUIRED_COLUMNS[names.BEHAVIORS]}
    both = []
    for table in (there, here):
        paths = [file.path for files in table.spans.values() for file in files]
        both.append(
            [row for path in paths for batch in read_batches(path, table.base, columns) for row in rows_of(batch)]
        )
    assert both[0] == both[1] and len(both[0]) == 3


def test_a_file_of_a_bucket_that_is_written_anew_makes_another_day(bucket, tmp_path):
    put(bucket, d2025_01_01="u,i,view,1\n", d2025_01_02="u,i,view,2\n")
    memory = f"{tmp_path}/memory.json"
    before = window_of(inspect_table(LOG, names.BEHAVIORS), None, memory)
    put(bucket, d2025_01_02="u,i,view,2\nv,i,view,3\n")
    first, second = window_of(inspect_table(LOG, names.BEHAVIORS), None, memory)
    assert first == before[0] and second != before[1]


def test_what_is_wrong_in_a_bucket_is_named_with_its_url(bucket):
    bucket["log/a.csv"] = b"user_id,item_id,event\nu,i,view\n"
    for folder, words in (
        (LOG, f"{LOG}/a.csv: has no column timestamp"),
        (f"gs://{BUCKET}/nothing", f"gs://{BUCKET}/nothing: is not a folder"),
        ("gs://another/log", "gs://another/log: cannot be listed"),
        ("nowhere://shop/log", "nowhere://shop/log: cannot be listed"),
    ):
        with pytest.raises(InputError, match=words):
            inspect_table(folder, names.BEHAVIORS)


def test_a_folder_of_this_machine_may_be_linked_to(tmp_path):
    (tmp_path / "there" / "2025-01-01").mkdir(parents=True)
    (tmp_path / "there" / "2025-01-01" / "a.csv").write_text("a")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "2025-01-01").symlink_to(tmp_path / "there" / "2025-01-01")
    (file,) = list_files(str(tmp_path / "log"))
    assert (file.path, file.size) == (f"{tmp_path}/log/2025-01-01/a.csv", 1)
    assert folder_exists(str(tmp_path / "log")) and not folder_exists(str(tmp_path / "nowhere"))
    assert base_of(f"{tmp_path}/log/../log/") == f"{tmp_path}/log"
    with open_file(file.path) as content:
        assert content.read() == b"a"
