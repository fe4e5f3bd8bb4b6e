"""homefeed as a user runs it, the command line in a process of its own, and what such a run leaves: its model, asked
as a page asks it, and its data."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.splits import Log, write_tables
from pipeline.config import Config
from pipeline.recommend import newest_version
from schema import names
from schema.saved_model import ServableModel
from schema.signatures import INPUTS
from trainer.encoder_files import resolve_encoder
from trainer.reading import TrainingData, read_training_data

_PART = 64  # users that are asked at once


def homefeed(*arguments: object) -> None:
    """Runs the command line; what it prints goes to stderr."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def run_homefeed(
    log: Log, catalog: dict[str, dict[str, str]], settings: tuple[str, ...], folder: Path, *options: str
) -> Path:
    """`homefeed run` on a log, in an existing folder; `settings` are passed on as `--set`. Returns the workspace."""
    data, workspace = folder / "data", folder / "workspace"
    write_tables(log, catalog, data)
    changes = [part for setting in settings for part in ("--set", setting)]
    tables = ("--behaviors", data / names.BEHAVIORS, "--catalog", data / names.CATALOG)
    homefeed("run", *tables, "--workspace", workspace, *changes, *options)
    return workspace


def pushed_model(workspace: Path) -> ServableModel:
    """The model that a run has pushed."""
    return ServableModel(str(newest_version(workspace / "serving" / names.MODEL_NAME)))


def ask(model: ServableModel, log: Log, k: int, asked: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """`recommend` for many users: [users, k] indices of the log's items, -1 where there is none, and for an item of the
    catalogue that has no event: it is nobody's relevant item, and takes its place all the same.

    Args:
      model: a pushed model.
      log: the items' names.
      k: length of the lists.
      asked: input -> a value for each user.
    """
    index = {name.encode(): i for i, name in enumerate(log.item_names)}
    lists = []
    for start in range(0, len(asked[names.USER_ID]), _PART):
        part = {
            name: np.array(values[start : start + _PART], INPUTS[name][0].as_numpy_dtype)
            for name, values in asked.items()
        }
        found = model(names.RECOMMEND, {**part, names.K: np.array([k], np.int32)})[names.ITEM_IDS]
        lists += [[index.get(item, -1) for item in row] for row in found]
    return np.array(lists)


def settings_of(config: Config) -> dict[str, Any]:
    """The configuration as `trainer.fitting.fit` takes it."""
    encoder = {**config.encoder.model_dump(), "folder": resolve_encoder(config.encoder.path)}
    length = config.split.history_length
    return {
        "model": config.model.model_dump(),
        "ranking": config.ranking.model_dump(),
        "retrieval": config.retrieval.model_dump(),
        "encoder": encoder,
        "history_length": length,
    }


def transformed(workspace: Path, settings: dict[str, Any]) -> TrainingData:
    """What Trainer would read of a workspace's newest Transform."""
    graph, examples = (
        max((workspace / "artifacts" / "Transform" / key).iterdir(), key=lambda path: int(path.name))
        for key in ("transform_graph", "transformed_examples")
    )
    files = [f"{examples}/Split-{split}/*" for split in names.TRAINER_SPLITS]
    return read_training_data(
        SimpleNamespace(custom_config=settings, train_files=files, transform_graph_path=str(graph), base_model=None)
    )
