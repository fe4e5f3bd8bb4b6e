"""TextEmbeddingGen beside sentence-transformers: the same weights, the same texts, the same cores, in one run.

    python -m benchmarks.text_embedding --archive amazon-beauty.zip --peer-python .venv-peers/bin/python

The texts are the titles of Amazon Beauty's catalogue, repetitions included. homefeed's time is that of the Beam steps
with everything around the model (hashing, deduplication, cache, writing); the peer's is `encode` alone, at its best
batch size of 256, which sorts by length too. Loading the model is told apart.
"""

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console
from rich.table import Table

from components.examples import ReadRows, WriteRows, decode_example
from components.text_embedding_gen import TEXT_HASH, Encode, embed_texts, text_hash
from pipeline.beam_runners import beam_args
from pipeline.config import load_config
from schema import names
from trainer.encoder_files import resolve_encoder
from trainer.text_encoder import BatchEncoder, load_encoder

_LOADED: dict[tuple[str, int], "CountingEncoder"] = {}


class CountingEncoder:
    """An encoder that is loaded before the clock starts, and counts what it encodes."""

    def __init__(self, encoder: BatchEncoder):
        self._encoder = encoder
        self.texts = 0

    def encode(self, texts: list[str]) -> np.ndarray:
        self.texts += len(texts)
        return self._encoder.encode(texts)

    def lengths(self, texts: list[str]) -> list[int]:
        return self._encoder.lengths(texts)


def loaded(folder: str, tokens: int) -> CountingEncoder:
    """`encoder_fn` for `Encode`."""
    if (folder, tokens) not in _LOADED:
        _LOADED[folder, tokens] = CountingEncoder(load_encoder(folder, tokens))
    return _LOADED[folder, tokens]


def titles(archive: Path) -> list[str]:
    """The catalogue's titles, in order."""
    with zipfile.ZipFile(archive) as file, file.open("items.csv") as content:
        return [row["title"] for row in csv.DictReader(io.TextIOWrapper(content, encoding="utf-8", newline=""))]


def embed(texts: list[str], folder: str, tokens: int, cache: list[str], out: str) -> float:
    """Seconds of TextEmbeddingGen's Beam steps; new rows go to OUT-new*, known ones to OUT-known*."""
    config = load_config()
    start = time.monotonic()
    with beam.Pipeline(options=PipelineOptions(beam_args(config.beam))) as pipeline:
        encode = Encode("benchmarks.text_embedding.loaded", folder, tokens, config.encoder.batch_size)
        new, known = embed_texts(pipeline | beam.Create(texts), pipeline | "Cache" >> ReadRows(cache), encode)
        for name, rows in (("new", new), ("known", known)):
            _ = rows | name >> WriteRows(f"{out}-{name}")
    return time.monotonic() - start


def read_rows(files: Iterator[Path]) -> dict[bytes, Any]:
    """Hash -> vector."""
    dataset = tf.data.TFRecordDataset([str(path) for path in files], compression_type="GZIP")
    rows = map(decode_example, dataset.as_numpy_iterator())
    return {row[TEXT_HASH][0]: row[names.TEXT_EMBEDDING] for row in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", required=True, type=Path)
    parser.add_argument("--peer-python", required=True, help="a Python that has sentence-transformers")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    arguments = parser.parse_args()
    texts = titles(arguments.archive)
    tokens, folder = load_config().encoder.max_tokens, resolve_encoder("")
    table = Table("", "load", "encode", "texts/s", title=f"{len(texts):,} titles, {len(set(texts)):,} distinct")
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as place:
        listed, out = Path(place, "texts.json"), Path(place, "theirs.npy")
        listed.write_text(json.dumps(texts))
        start = time.monotonic()
        encoder = loaded(folder, tokens)
        encoder.encode(["warm up"] * 256)
        load = time.monotonic() - start
        for number in range(arguments.rounds):
            encoder.texts = 0
            ours.append(embed(texts, folder, tokens, [], f"{place}/{number}"))
            if encoder.texts != len(set(texts)):
                raise SystemExit(f"encoded {encoder.texts} texts of {len(set(texts))} distinct ones")
            script = Path(__file__).with_name("text_embedding_peer.py")
            command = [arguments.peer_python, str(script), folder, str(tokens), str(listed), str(out)]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                raise SystemExit(result.stderr[-2000:])
            theirs.append(json.loads(result.stdout.splitlines()[-1]))
        encoder.texts = 0
        again = embed(texts, folder, tokens, [str(p) for p in Path(place).glob("0-new*")], f"{place}/again")
        vectors = read_rows(Path(place).glob("0-new*"))
        mine = np.array([vectors[text_hash(text)] for text in texts])
        apart = np.abs(mine - np.load(out)).max()
    mine_encode, their_encode = np.median(ours), np.median([round_["encode"] for round_ in theirs])
    their_load = np.median([round_["load"] for round_ in theirs])
    rows = (("homefeed", load, mine_encode), ("sentence-transformers", their_load, their_encode))
    for name, loading, encoding in rows:
        table.add_row(name, f"{loading:.1f} s", f"{encoding:.1f} s", f"{len(texts) / encoding:.0f}")
    Console().print(table)
    print(
        f"homefeed encodes {their_encode / mine_encode:.2f} times as fast; largest difference of a value {apart:.1e}."
    )
    print(f"A second run over the same texts: {encoder.texts} encoded, {again:.1f} s.")
    return 0


if __name__ == "__main__":
    from benchmarks import text_embedding  # not `__main__`: Beam imports `loaded` by its path

    sys.exit(text_embedding.main())
