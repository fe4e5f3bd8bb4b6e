"""Spans: the days of a table. Which there are, what is in them, and what has been made of each already.

TFX's span of a day is its number of days since 1970; late data makes a new version of the span. Work on a span is kept
in a `SpanStore` under a key of everything that it depends on, so that only new days are worked on, whatever was killed
before, and the result never depends on what the store happened to hold.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Examples

from components.examples import split_files
from components.input_files import list_files, open_file
from components.json_files import read_json, write_json
from schema import names
from schema.days import day_of
from schema.errors import InputError

_DONE = "done.json"
_SPANS, _ORIGIN = "spans", "origin"  # custom properties


@dataclass(frozen=True)
class Span:
    """One day's files.

    Attributes:
      name: the day's folder, or `names.ALL_SPLIT` where the table has no folders.
      fingerprint: of the files' names and bytes.
    """

    name: str
    fingerprint: str

    @property
    def number(self) -> int:
        """Days since 1970, as TFX numbers spans; 0 for a table without days."""
        day = day_of(self.name)
        return (day - dt.date(1970, 1, 1)).days if day else 0


def dump_spans(spans: Iterable[Span]) -> str:
    """Spans as an execution property: JSON, name -> fingerprint."""
    return json.dumps({span.name: span.fingerprint for span in spans})


def load_spans(text: str) -> list[Span]:
    """The inverse of `dump_spans`."""
    return [Span(name, fingerprint) for name, fingerprint in json.loads(text).items()]


def span_files(base: str, span: str, suffix: str) -> list[str]:
    """A span's files, in order."""
    folder = base if span == names.ALL_SPLIT else f"{base}/{span}"
    return [file.path for file in list_files(folder, (f"*{suffix}",))]


def fingerprint_files(files: Iterable[str]) -> str:
    """Hash of files' names and contents: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256()
        with open_file(file) as stream:
            while block := stream.read(1 << 22):
                content.update(block)
        digest.update(Path(file).name.encode() + b"\0" + content.digest())
    return digest.hexdigest()[:16]


def check_unchanged(base: str, span: Span, suffix: str) -> None:
    """Raises InputError where a span's files are no more those that its fingerprint is of."""
    if fingerprint_files(span_files(base, span.name, suffix)) != span.fingerprint:
        raise InputError(f"{base}/{span.name}: changed while it was read; run again when it is written whole.")


class SpanStore:
    """What one step has made of each span: a folder for each (span, key), whole once its `done.json` is there.

    Args:
      folder: of this step and table, beside the artifacts; it may be deleted at any time between runs.
      settings: whatever the work depends on besides the span itself.
    """

    def __init__(self, folder: str, settings: Mapping[str, Any]):
        self._folder = folder
        self.settings = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def path(self, span: Span) -> str:
        """Where the span's work is, or is to be."""
        key = hashlib.sha256(f"{span.fingerprint} {self.settings}".encode()).hexdigest()[:16]
        return f"{self._folder}/{span.name}/{key}"

    def missing(self, spans: Iterable[Span]) -> list[Span]:
        """Spans that are still to be worked on; what an interrupted run left of them is removed."""
        found = []
        for span in spans:
            path = self.path(span)
            if not fileio.exists(f"{path}/{_DONE}"):
                if fileio.exists(path):
                    fileio.rmtree(path)
                fileio.makedirs(path)
                found.append(span)
        return found

    def commit(self, span: Span, details: Mapping[str, Any] | None = None) -> None:
        """Marks a span's folder as whole. The span's version counts the distinct contents it has had, from 1."""
        versions = {done["fingerprint"]: done["version"] for done in self._all(span.name)}
        version = versions.get(span.fingerprint, max(versions.values(), default=0) + 1)
        done = {"fingerprint": span.fingerprint, "version": version, "details": dict(details or {})}
        write_json(f"{self.path(span)}/{_DONE}", done)

    def details(self, span: Span) -> dict[str, Any]:
        """What was said of the span when it was committed."""
        return read_json(f"{self.path(span)}/{_DONE}")["details"]

    def version(self, span: Span) -> int:
        """The committed span's version."""
        return read_json(f"{self.path(span)}/{_DONE}")["version"]

    def _all(self, name: str) -> list[dict[str, Any]]:
        return [read_json(path) for path in fileio.glob(f"{self._folder}/{name}/*/{_DONE}")]


def name_splits(artifact: Artifact, spans: list[Span]) -> None:
    """Says that an artifact has a split for each span."""
    artifact.split_names = artifact_utils.encode_split_names([span.name for span in spans])
    artifact.set_string_custom_property(_SPANS, dump_spans(spans))


def publish(artifact: Artifact, store: SpanStore, spans: list[Span], pattern: str = "*") -> None:
    """Copies each span's files into its split of an artifact, so that the artifact stands without the store.

    Sets the artifact's split names, and its spans (see `spans_of`).

    Args:
      artifact: of a type with `split_names`.
      pattern: which of the span's files.
    """
    name_splits(artifact, spans)
    artifact.set_string_custom_property(_ORIGIN, store.settings)
    for span in spans:
        folder = artifact_utils.get_split_uri([artifact], span.name)
        fileio.makedirs(folder)
        for file in fileio.glob(f"{store.path(span)}/{pattern}"):
            name = Path(file).name
            if name != _DONE:
                fileio.copy(file, f"{folder}/{name}", overwrite=True)


def spans_of(artifact: Artifact) -> list[Span]:
    """The spans that `name_splits` wrote, in order."""
    return load_spans(artifact.get_string_custom_property(_SPANS))


def files_of(examples: Examples) -> list[str]:
    """The TFRecord files of all spans of an artifact, in the spans' order."""
    return [path for span in spans_of(examples) for path in split_files(examples, span.name)]


def origin_of(artifact: Artifact) -> str:
    """What the artifact's splits depend on besides the spans: the settings of the store that `publish` took."""
    return artifact.get_string_custom_property(_ORIGIN)
