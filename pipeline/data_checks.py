"""`homefeed data validate` and `homefeed data propose-schema`: the data half of the pipeline, alone."""

import difflib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.input_files import folder_exists
from components.span_statistics_gen import FILE
from components.span_validator import TRAINING
from pipeline.config import Config
from pipeline.local_runner import DATA_GATE, run_locally, schemas_folder
from pipeline.outcome import Outcome
from schema import names
from schema.errors import InputError

# A top-level message of a schema file: its field and name, from its opening to the closing brace at the line's start.
_BLOCK = re.compile(r"^(feature|string_domain) \{(?:\n(?:.*\n)*?\}|.*\})\n", re.MULTILINE)


def validate_folder(config: Config, folder: str, workspace: str | None) -> Outcome:
    """Judges the tables below a folder, as far as DataGate.

    Args:
      folder: holds behaviors/, catalog/ and perhaps users/.
      workspace: where what was read is kept; None keeps nothing.

    Raises:
      InputError: there are no such tables, or they cannot be read.
    """
    with _somewhere(workspace) as place:
        return run_locally(config, _tables(folder), place, DATA_GATE)


def propose_schemas(config: Config, folder: str, out: str | None) -> str:
    """The change of the curated schemas that makes a folder's data fit them, day by day.

    Args:
      out: folder that gets whole schemas with the change; nothing is written where it is None.

    Returns:
      A unified diff, empty where the schemas fit.
    """
    curated = Path(schemas_folder(config))
    proposed = {path.name: path.read_text(encoding="utf-8") for path in sorted(curated.glob("*.pbtxt"))}
    tables = _tables(folder)
    with _somewhere(None) as place:
        run_locally(config, tables, place, DATA_GATE)
        for table in tables:
            statistics = Path(place, "artifacts", f"{table.capitalize()}StatisticsGen", "statistics")
            files = sorted(statistics.glob(f"*/Split-*/{FILE}"))
            name = f"{table}.pbtxt"
            proposed[name] = updated_schema(proposed[name], [path.read_bytes() for path in files])
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)
        for name, text in proposed.items():
            (Path(out) / name).write_text(text, encoding="utf-8")
    return "".join(
        line
        for name, text in proposed.items()
        for line in difflib.unified_diff(
            (curated / name).read_text(encoding="utf-8").splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"a/schema/{name}",
            f"b/schema/{name}",
        )
    )


def updated_schema(text: str, statistics: list[bytes]) -> str:
    """A schema file relaxed so that statistics fit it; only the messages that change are written anew, so that a
    person's comments stay.

    Args:
      text: the file.
      statistics: serialized statistics, one for each day.
    """
    before = text_format.Parse(text, schema_pb2.Schema())
    after = before
    for serialized in statistics:
        day = statistics_pb2.DatasetFeatureStatisticsList.FromString(serialized)
        if tfdv.validate_statistics(day, after, environment=TRAINING).anomaly_info:
            after = tfdv.update_schema(after, day, infer_feature_shape=False)
    for field in ("feature", "string_domain"):
        old = {message.name: message for message in getattr(before, field)}
        for message in getattr(after, field):
            if message.name not in old:
                text = f"{text.rstrip()}\n{_render(field, message)}"
            elif message != old[message.name]:
                text = _replace(text, field, message)
    return text


def _replace(text: str, field: str, message: Any) -> str:
    def renew(found: re.Match[str]) -> str:
        is_it = found[1] == field and f'name: "{message.name}"' in found[0]
        return _render(field, message) if is_it else found[0]

    return _BLOCK.sub(renew, text)


def _render(field: str, message: Any) -> str:
    body = text_format.MessageToString(message)
    return f"{field} {{\n" + "".join(f"  {line}\n" for line in body.splitlines()) + "}\n"


def _tables(folder: str) -> dict[str, str]:
    places = {table: f"{folder.rstrip('/')}/{table}" for table in names.TABLES}
    found = {table: place for table, place in places.items() if folder_exists(place)}
    for table in (names.BEHAVIORS, names.CATALOG):
        if table not in found:
            raise InputError(f"{places[table]}: is not there; give the folder that holds behaviors/ and catalog/.")
    return found


@contextmanager
def _somewhere(workspace: str | None) -> Iterator[str]:
    if workspace:
        yield workspace
        return
    with tempfile.TemporaryDirectory(prefix="homefeed-") as folder:
        yield folder
