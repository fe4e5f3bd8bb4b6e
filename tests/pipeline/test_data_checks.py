import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from components.columnar import concat
from components.examples import read_examples, write_examples
from components.span_statistics_gen import statistics_in_memory
from components.span_validator import length_bounds, validate_span
from components.table_reader import read_batches
from pipeline.config import load_config
from pipeline.data_checks import propose_schemas, updated_schema, validate_folder
from schema import names
from schema.errors import InputError

SCHEMAS = Path(__file__).parents[2] / "schema"
HEADER = "user_id,item_id,event,timestamp,value\n"


def statistics_of(tmp_path, rows, table=names.BEHAVIORS, header=HEADER):
    """TFDV's statistics of CSV rows."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "a.csv").write_text(header + "".join(rows))
    batches = read_batches(str(tmp_path / "a.csv"), str(tmp_path), names.COLUMNS[table])
    write_examples(str(tmp_path / "a.gz"), batches)
    return statistics_in_memory([str(tmp_path / "a.gz")], names.COLUMNS[table])


def schema_of(table, text=None):
    return text_format.Parse(text or (SCHEMAS / f"{table}.pbtxt").read_text(), schema_pb2.Schema())


def rows(count, event="view", value="1"):
    return [f"u{n},i{n},{event},{1_700_000_000 + n},{value}\n" for n in range(count)]


@pytest.mark.parametrize("table", [*names.TABLES, "interactions"])
def test_a_curated_schema_has_environments_and_bounds(table):
    schema = schema_of(table)
    assert list(schema.default_environment) == ["TRAINING", "SERVING"]
    columns = {feature.name for feature in schema.feature}
    if table != "interactions":
        assert columns == set(names.COLUMNS[table])
        assert all(feature.HasField("presence") for feature in schema.feature)
        kinds = {schema_pb2.BYTES: bytes, schema_pb2.INT: int, schema_pb2.FLOAT: float}
        assert {f.name: kinds[f.type] for f in schema.feature} == names.COLUMNS[table]


def test_labels_are_not_served():
    served = {f.name for f in schema_of("interactions").feature if "SERVING" not in f.not_in_environment}
    assert not served & {names.TARGET_ITEM_IDS, names.WEIGHT, names.ACTIVITY}
    assert {names.USER_ID, names.HISTORY_ITEM_IDS, names.TIMESTAMP} <= served


def test_length_bounds_are_read_from_the_schema():
    assert length_bounds(str(SCHEMAS / "catalog.pbtxt"))[names.TITLE] == 2_000


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        ([], set()),
        (rows(30, event="wishlist"), {"ENUM_TYPE_UNEXPECTED_STRING_VALUES"}),
        (rows(1, value="-1"), {"FLOAT_TYPE_SMALL_FLOAT"}),
        (["u,i,view,-5,1\n"], {"INT_TYPE_SMALL_INT"}),
        (["u,i,view,9999999999999,1\n"], {"INT_TYPE_BIG_INT"}),
    ],
    ids=["nothing", "event", "value", "before 1970", "milliseconds"],
)
def test_a_day_outside_of_the_schema_is_found(tmp_path, changed, kinds):
    found = validate_span(statistics_of(tmp_path, [*rows(100), *changed]), schema_of(names.BEHAVIORS), None, 10)
    types = {reason.type for info in found.anomaly_info.values() for reason in info.reason}
    assert {anomalies_pb2.AnomalyInfo.Type.Name(kind) for kind in types} == kinds


def test_drift_is_looked_for_where_there_are_rows_enough(tmp_path):
    views, clicks = (statistics_of(tmp_path / e, rows(100, event=e)) for e in ("view", "click"))
    schema = schema_of(names.BEHAVIORS)
    assert names.EVENT in validate_span(clicks, schema, views, min_rows=100).anomaly_info
    assert not validate_span(clicks, schema, views, min_rows=101).anomaly_info
    assert not validate_span(clicks, schema, None, min_rows=1).anomaly_info


def test_a_proposal_changes_what_has_to_change_and_keeps_the_comments(tmp_path):
    text = (SCHEMAS / "behaviors.pbtxt").read_text()
    statistics = statistics_of(tmp_path, [*rows(100), *rows(30, event="wishlist")])
    proposed = updated_schema(text, [statistics.SerializeToString()])
    assert 'value: "wishlist"' in proposed and "# The behaviour log." in proposed
    before, after = schema_of(names.BEHAVIORS), schema_of(names.BEHAVIORS, proposed)
    assert [f.name for f in before.feature if f not in list(after.feature)] == [names.EVENT]
    assert not validate_span(statistics, after, None, 10).anomaly_info
    assert updated_schema(proposed, [statistics.SerializeToString()]) == proposed


def test_statistics_of_small_days_are_those_of_tfdv_s_pipeline(tmp_path):
    mine = statistics_of(tmp_path, rows(500)).datasets[0]
    batch = concat(read_examples([str(tmp_path / "a.gz")], names.COLUMNS[names.BEHAVIORS]))
    with beam.Pipeline() as pipeline:
        counted = pipeline | beam.Create([batch]) | tfdv.GenerateStatistics()
        _ = counted | beam.Map(lambda s: (tmp_path / "theirs").write_bytes(s.SerializeToString()))
    theirs = statistics_pb2.DatasetFeatureStatisticsList.FromString((tmp_path / "theirs").read_bytes()).datasets[0]
    by_name = {feature.path.step[0]: feature for feature in theirs.features}
    assert mine.num_examples == theirs.num_examples == 500
    for feature in mine.features:
        assert feature == by_name[feature.path.step[0]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    for table, header, lines in (
        (names.BEHAVIORS, HEADER, [*rows(200), *rows(60, event="wishlist")]),
        (names.CATALOG, "item_id,title\n", [f"i{n},Thing {n}\n" for n in range(200)]),
    ):
        (folder / table).mkdir()
        (folder / table / "a.csv").write_text(header + "".join(lines))
    return folder


def test_a_folder_is_judged_and_a_change_of_schema_proposed(shop, tmp_path):
    strict = "gate.schema_severity.ENUM_TYPE_UNEXPECTED_STRING_VALUES=error"
    config = load_config(None, ("events.wishlist=2.0", "events.view=1.0", strict))
    outcome = validate_folder(config, str(shop), None)
    assert not outcome.blessed
    assert [f["column"] for f in outcome.findings if f["severity"] == "error"] == [names.EVENT]
    diff = propose_schemas(config, str(shop), str(tmp_path / "schemas"))
    added = [line for line in diff.splitlines() if line.startswith("+ ")]
    assert diff.startswith("--- a/schema/behaviors.pbtxt") and '    value: "wishlist"' in " ".join(added)
    own = load_config(None, ("events.wishlist=2.0", "events.view=1.0", strict, f"schemas={tmp_path / 'schemas'}"))
    assert validate_folder(own, str(shop), None).blessed


def test_a_folder_without_tables_is_named(tmp_path):
    with pytest.raises(InputError, match="behaviors: is not there"):
        validate_folder(load_config(), str(tmp_path), None)


def test_a_folder_without_schemas_is_named(shop, tmp_path):
    with pytest.raises(InputError, match=r"behaviors\.pbtxt: is missing"):
        validate_folder(load_config(None, (f"schemas={tmp_path}",)), str(shop), None)


def test_the_command_prints_tables_and_exits_with_the_gate_s_code(shop):
    command = [sys.executable, "-m", "pipeline.cli", "data", "validate", str(shop)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 3
    assert all(word in result.stdout for word in ("severity", "share of rows", "unknown_event", "a.csv:202"))
    assert "Traceback" not in result.stderr and result.stderr.strip().splitlines()[-1].startswith("homefeed: ")
