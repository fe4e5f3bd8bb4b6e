import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.columnar import rows_of as as_rows
from components.examples import decode_example, encode_example
from components.table_reader import read_batches
from schema import names
from schema.errors import InputError

LOG = b"user_id,item_id,event,timestamp,value,unknown\n"


def read_rows(path, base, table=names.BEHAVIORS):
    return [row for batch in read_batches(path, base, names.COLUMNS[table]) for row in as_rows(batch)]


def rows_of(tmp_path, content: bytes):
    (tmp_path / "day").mkdir(exist_ok=True)
    file = tmp_path / "day" / "a.csv"
    file.write_bytes(content)
    return read_rows(str(file), str(tmp_path))


def test_columns_keep_their_type_whatever_the_values_look_like(tmp_path):
    (row,) = rows_of(tmp_path, LOG + b"007,00123,view,1291191960,2,x\n")
    assert row == {
        names.SOURCE_ROW: [b"day/a.csv:2"],
        names.USER_ID: [b"007"],
        names.ITEM_ID: [b"00123"],
        names.EVENT: [b"view"],
        names.TIMESTAMP: [1291191960],
        names.VALUE: [2.0],
    }


def test_empty_and_unreadable_values_are_absent(tmp_path):
    first, second = rows_of(tmp_path, LOG + b"u,,view,soon,,x\nu,i,view,1e30,nan,x\n")
    expected = {names.SOURCE_ROW: [b"day/a.csv:2"], names.USER_ID: [b"u"], names.EVENT: [b"view"]}
    assert first == {**expected, names.UNREADABLE: [b"timestamp"]}
    assert names.TIMESTAMP not in second


def test_a_parquet_time_becomes_seconds(tmp_path):
    moments = pa.array([1_700_000_000_500], pa.timestamp("ms"))
    pa.parquet.write_table(
        pa.table({"user_id": pa.array(["u"]).dictionary_encode(), "timestamp": moments}), tmp_path / "a.parquet"
    )
    (row,) = read_rows(str(tmp_path / "a.parquet"), str(tmp_path))
    assert (row[names.USER_ID], row[names.TIMESTAMP]) == ([b"u"], [1_700_000_000])


def test_one_bad_number_does_not_lose_its_neighbours(tmp_path):
    rows = rows_of(tmp_path, LOG + b"u,i,view,1.0,7,x\nu,i,view,2,seven,x\n")
    assert [r.get(names.TIMESTAMP) for r in rows] == [[1], [2]]
    assert [r.get(names.VALUE) for r in rows] == [[7.0], None]
    assert rows[1][names.UNREADABLE] == [b"value"]


def test_lines_that_are_no_csv_of_the_header_are_marked_with_their_number(tmp_path):
    rows = rows_of(tmp_path, LOG + b"u,i\nu,i,view,1,1,x\nu,i,view,1,1,x,y,z\n")
    assert [r[names.SOURCE_ROW][0] for r in rows] == [b"day/a.csv:2", b"day/a.csv:3", b"day/a.csv:4"]
    assert [names.BROKEN_ROW in r for r in rows] == [True, False, True]


def test_bytes_that_are_not_utf8_and_quoted_line_breaks_come_through(tmp_path):
    rows = rows_of(tmp_path, LOG + b'u\xff,i,view,1,1,x\nu,"i\n2",view,1,1,x\n')
    assert rows[0][names.USER_ID] == [b"u\xff"]
    assert rows[1][names.ITEM_ID] == [b"i\n2"]


def test_parquet_rows_are_the_same_as_csv_rows(tmp_path):
    table = pa.table({"user_id": ["u"], "item_id": ["i"], "event": ["view"], "timestamp": [1], "value": [None]})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    (row,) = read_rows(str(tmp_path / "a.parquet"), str(tmp_path))
    assert row == {
        names.SOURCE_ROW: [b"a.parquet:2"],
        names.USER_ID: [b"u"],
        names.ITEM_ID: [b"i"],
        names.EVENT: [b"view"],
        names.TIMESTAMP: [1],
    }


def test_a_parquet_string_that_is_not_utf8_comes_through_as_bytes(tmp_path):
    column = pa.array([b"u\xff"], pa.binary()).view(pa.string())
    pa.parquet.write_table(pa.table({"user_id": column}), tmp_path / "a.parquet")
    (row,) = read_rows(str(tmp_path / "a.parquet"), str(tmp_path))
    assert row[names.USER_ID] == [b"u\xff"]


def test_a_parquet_file_that_is_broken_inside_is_named(tmp_path):
    file = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"user_id": [str(n) for n in range(50_000)]}), file, use_dictionary=False)
    content = bytearray(file.read_bytes())
    content[1_000:60_000] = bytes(59_000)
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read to its end"):
        read_rows(str(file), str(tmp_path))


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.lists(st.binary(max_size=5), min_size=1)
        | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1)
        | st.lists(st.floats(width=32, allow_nan=False), min_size=1),
    )
)
def test_a_row_survives_the_example(row):
    assert decode_example(encode_example(row)) == row
