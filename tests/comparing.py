"""Artifacts of two runs, side by side."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.examples import decode_example

# node -> output key, of the artifacts that are records.
RECORDS = {
    "BehaviorsExampleGen": "examples",
    "BehaviorsRowValidator": "rows",
    "CatalogRowValidator": "rows",
    "TextEmbeddingGen": "text_embeddings",
    "InteractionGen": "examples",
    "Transform": "transformed_examples",
}


def newest(workspace: Path, node: str, key: str) -> Path:
    """Folder of the newest artifact of a node's output."""
    return max((workspace / "artifacts" / node / key).iterdir(), key=lambda p: int(p.name))


def records(folder: Path) -> list[list[tuple[str, list[Any]]]]:
    """Decoded records of a folder's files, in an order that does not depend on how they were sharded."""
    dataset = tf.data.TFRecordDataset([str(path) for path in folder.glob("*.gz")], compression_type="GZIP")
    return sorted(sorted(decode_example(record).items()) for record in dataset.as_numpy_iterator())


def assert_same_records(ours: list[Any], theirs: list[Any]) -> None:
    """Numbers may differ by 1e-5: an embedding depends a little on what it was batched with."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert [name for name, _ in mine] == [name for name, _ in other]
        for (name, values), (_, others) in zip(mine, other, strict=True):
            if isinstance(values[0], float):
                np.testing.assert_allclose(values, others, atol=1e-5, err_msg=name)
            else:
                assert values == others, name


def assert_same_artifacts(mine: Path, other: Path) -> None:
    """Everything up to Transform, of two workspaces, is the same."""
    for node, key in RECORDS.items():
        ours, theirs = newest(mine, node, key), newest(other, node, key)
        folders = sorted(path.name for path in ours.iterdir() if path.is_dir())
        assert folders == sorted(path.name for path in theirs.iterdir() if path.is_dir())
        for name in folders or ["."]:
            found = records(ours / name)
            assert found or name == "Split-eval", (node, name)
            assert_same_records(found, records(theirs / name))
    read = statistics_pb2.DatasetFeatureStatisticsList.FromString
    for node in ("BehaviorsStatisticsGen", "CatalogStatisticsGen"):
        theirs = newest(other, node, "statistics")
        for path in newest(mine, node, "statistics").glob("Split-*/FeatureStats.pb"):
            assert read(path.read_bytes()) == read((theirs / path.parent.name / path.name).read_bytes())
    assets = [newest(w, "Transform", "transform_graph") / "transform_fn" / "assets" for w in (mine, other)]
    names = sorted(path.name for path in assets[0].iterdir())
    assert names == sorted(path.name for path in assets[1].iterdir())
    for name in names:
        assert (assets[0] / name).read_bytes() == (assets[1] / name).read_bytes()
