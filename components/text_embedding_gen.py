"""TextEmbeddingGen: the BERT embedding of every distinct item text, each text embedded once for each encoder.

Embeddings are kept in a folder beside the artifacts under the encoder's fingerprint; a text that an earlier run or span
has had is read from there. Texts of like length are encoded together, since a batch costs as much as its longest text.
"""

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.utils.shared import Shared
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Examples
from tfx.utils import import_utils

from components.artifacts import DataBlessing, TextEmbeddings
from components.columnar import scalars
from components.examples import ReadRows, WriteRows, grouped, read_examples
from components.spans import files_of
from schema import names

TEXT_HASH = "text_hash"
_NEW, _KNOWN = "new", "known"
_GROUP = 8_192  # texts that are sorted by length together


def item_text(row: dict[str, list[Any]]) -> str:
    """What the encoder reads of a catalog row: its title, and its description where there is one."""
    parts = [row[name][0].decode("utf-8", "replace") for name in (names.TITLE, names.DESCRIPTION) if name in row]
    return ". ".join(parts)


def text_hash(text: str) -> bytes:
    """Key of a text: SHA-256 of its UTF-8."""
    return hashlib.sha256(text.encode()).digest()


class Encode(beam.DoFn):
    """Groups of (hash, text) to rows of hash and embedding.

    Args:
      encoder_fn: path of a function `(folder, max_tokens)` that returns an object with `encode(list of str)` and
        `lengths(list of str)`, word pieces.
      batch_size: texts encoded at once.
    """

    def __init__(self, encoder_fn: str, folder: str, max_tokens: int, batch_size: int):
        self._arguments = (encoder_fn, folder, max_tokens)
        self._batch_size = batch_size
        # One model a worker process, whatever threads it has and however often Beam makes this DoFn anew.
        self._shared = Shared()
        self._encoder: Any = None

    def process(self, group: list[tuple[bytes, str]]) -> Iterator[dict[str, list[Any]]]:
        if self._encoder is None:  # not in `setup`: most days bring no new text, and loading takes seconds
            encoder_fn, folder, max_tokens = self._arguments
            self._encoder = self._shared.acquire(
                lambda: import_utils.import_class_by_path(encoder_fn)(folder, max_tokens), tag=repr(self._arguments)
            )
        for batch in by_length(group, self._encoder.lengths([text for _, text in group]), self._batch_size):
            vectors = self._encoder.encode([text for _, text in batch])
            for (key, _), vector in zip(batch, vectors, strict=True):
                yield {TEXT_HASH: [key], names.TEXT_EMBEDDING: vector.tolist()}


def by_length(group: list[Any], lengths: Sequence[int], batch_size: int) -> Iterator[list[Any]]:
    """The group's elements in batches of ascending length."""
    ordered = [element for _, element in sorted(zip(lengths, group, strict=True), key=lambda pair: pair[0])]
    for start in range(0, len(ordered), batch_size):
        yield ordered[start : start + batch_size]


def embed_texts(
    texts: beam.PCollection, cached: beam.PCollection, encode: Encode
) -> tuple[beam.PCollection, beam.PCollection]:
    """Embeds what the cache does not hold.

    Args:
      texts: item texts, with repetitions.
      cached: rows that earlier runs wrote.

    Returns:
      (rows that were embedded now, rows that the cache had), both only for texts in `texts`.
    """
    joined = {
        "texts": texts | "Key" >> beam.Map(lambda text: (text_hash(text), text)) | "Once" >> beam.Distinct(),
        "cached": cached | "KeyCached" >> beam.Map(lambda row: (row[TEXT_HASH][0], row)),
    } | beam.CoGroupByKey()
    known = joined | "Known" >> beam.FlatMap(_known)
    new = (
        joined
        | "Missing" >> beam.FlatMap(_missing)
        | beam.BatchElements(min_batch_size=_GROUP, max_batch_size=_GROUP)
        | "Encode" >> beam.ParDo(encode)
    )
    return new, known


def _known(element: tuple[bytes, dict[str, Iterable[Any]]]) -> Iterator[dict[str, list[Any]]]:
    cached = list(element[1]["cached"])
    if cached and list(element[1]["texts"]):
        yield cached[0]


def _missing(element: tuple[bytes, dict[str, Iterable[Any]]]) -> Iterator[tuple[bytes, str]]:
    key, sides = element
    if not list(sides["cached"]):
        for text in sides["texts"]:
            yield key, text


@component(use_beam=True)
def TextEmbeddingGen(
    catalog: InputArtifact[Examples],
    behaviors: InputArtifact[Examples],
    blessing: InputArtifact[DataBlessing],
    text_embeddings: OutputArtifact[TextEmbeddings],
    encoder_fn: Parameter[str],
    encoder_folder: Parameter[str],
    encoder_fingerprint: Parameter[str],
    max_tokens: Parameter[int],
    batch_size: Parameter[int],
    comments_too: Parameter[bool],
    cache_folder: Parameter[str],
    code_version: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes one record for each distinct text of the catalog, and for each distinct comment: `TEXT_HASH` and
    `names.TEXT_EMBEDDING`."""
    cache = f"{cache_folder}/{encoder_fingerprint}"
    with beam_pipeline as pipeline:
        items = pipeline | "Catalog" >> ReadRows(files_of(catalog)) | beam.Map(item_text)
        comments = (
            pipeline
            | "Behaviors" >> beam.Create(grouped(files_of(behaviors)) if comments_too else [])
            | beam.Reshuffle()
            | "Comments" >> beam.FlatMap(_comments)
        )
        texts = (items, comments) | beam.Flatten()
        shards = sorted(fileio.glob(f"{cache}/*.gz"))
        cached = pipeline | "Cache" >> ReadRows(shards)
        new, known = embed_texts(texts, cached, Encode(encoder_fn, encoder_folder, max_tokens, batch_size))
        for name, rows in ((_NEW, new), (_KNOWN, known)):
            _ = rows | f"Write[{name}]" >> WriteRows(f"{text_embeddings.uri}/text_embeddings-{name}")
    fileio.makedirs(cache)
    for shard in fileio.glob(f"{text_embeddings.uri}/text_embeddings-{_NEW}*.gz"):
        _add_to_cache(shard, cache)


def _comments(paths: list[str]) -> Iterator[str]:
    for batch in read_examples(paths, {names.COMMENT: bytes}):
        for comment in scalars(batch)[names.COMMENT].unique().to_pylist():
            if comment:
                yield comment.decode("utf-8", "replace")


def _add_to_cache(shard: str, cache: str) -> None:
    """Copies a shard under a name of its own; it carries the suffix that readers look for only when it is whole."""
    name = f"{cache}/{uuid.uuid4().hex}"
    fileio.copy(shard, f"{name}.partial")
    fileio.rename(f"{name}.partial", f"{name}.gz")


def embedding_files(text_embeddings: TextEmbeddings) -> list[str]:
    """The artifact's record files."""
    return sorted(fileio.glob(os.path.join(text_embeddings.uri, "text_embeddings-*.gz")))
