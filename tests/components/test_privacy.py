import hmac

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from components.columnar import rows_of, scalars, to_batch
from components.privacy import Privacy, hash_user_ids, suppress, values_of_users
from components.table_example_gen import _KeptValues
from schema import names
from schema.errors import InputError
from schema.privacy import KEY_VARIABLE, key_check, pseudonym, user_id_key

KEY = b"0123456789abcdef"


def batch(users, countries):
    return to_batch({names.USER_ID: pa.array(users, pa.binary()), names.COUNTRY: pa.array(countries, pa.binary())})


def test_a_pseudonym_is_a_keyed_hash_and_the_same_everywhere():
    expected = hmac.new(KEY, b"u1", "sha256").hexdigest()[:32].encode()
    assert pseudonym(b"u1", KEY) == expected
    assert pseudonym(b"u1", KEY + b"x") != expected != pseudonym(b"u2", KEY)


def test_user_ids_are_replaced_and_malformed_ones_taken_out():
    hashed = hash_user_ids(batch([b"u1", None, b" u1", b"\xff", b"u1"], [b"a"] * 5), KEY)
    one = pseudonym(b"u1", KEY)
    assert scalars(hashed)[names.USER_ID].to_pylist() == [one, None, None, None, one]
    assert scalars(hashed)[names.COUNTRY].to_pylist() == [b"a"] * 5


@pytest.mark.parametrize("key", [None, "", "short"])
def test_a_missing_or_short_key_is_refused(monkeypatch, key):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    if key is not None:
        monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(InputError, match=KEY_VARIABLE):
        user_id_key()


def test_a_check_tells_keys_apart_and_is_none_of_them():
    assert key_check(KEY) == key_check(KEY) != key_check(KEY + b"x")
    assert key_check(KEY).encode() not in KEY


def test_dropped_columns_are_never_read():
    assert Privacy(drop_columns=(names.COMMENT,)).columns({names.USER_ID: bytes, names.COMMENT: bytes}) == {
        names.USER_ID: bytes
    }


def test_rare_values_are_taken_out_and_counted_by_their_users():
    table = batch([b"u1", b"u1", b"u2", b"u3", None], [b"GB", b"FR", b"GB", b"FR", b"FR"])
    assert values_of_users([table], names.COUNTRY) == {(b"GB", b"u1"), (b"GB", b"u2"), (b"FR", b"u1"), (b"FR", b"u3")}
    left = rows_of(suppress(table, {names.COUNTRY: frozenset({b"GB"})}))
    assert [row.get(names.COUNTRY) for row in left] == [[b"GB"], None, [b"GB"], None, None]


def test_a_value_of_fewer_than_k_users_of_a_span_is_not_kept(tmp_path):
    files = []
    for number, rows in enumerate(["u1,GB\nu2,GB\nu3,FR\n", "u3,GB\nu3,FR\nu4,FR\n"]):
        path = tmp_path / f"{number}.csv"
        path.write_text("user_id,country\n" + rows)
        files.append(("day", str(path), number))
    with TestPipeline() as pipeline:
        kinds = {names.USER_ID: bytes, names.COUNTRY: bytes}
        kept = pipeline | beam.Create(files) | _KeptValues(str(tmp_path), kinds, {names.COUNTRY: 3})
        assert_that(kept, equal_to([("day", {names.COUNTRY: frozenset({b"GB"})})]))
