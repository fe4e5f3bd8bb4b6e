"""homefeed as a user runs it, the command line in a process of its own, and what such a run leaves."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.splits import Log, write_tables
from pipeline.config import Config
from schema import names
from trainer.encoder_files import resolve_encoder
from trainer.reading import TrainingData, read_training_data


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


def settings_of(config: Config) -> dict[str, Any]:
    """The configuration as `trainer.fitting.fit` takes it."""
    encoder = {**config.encoder.model_dump(), "folder": resolve_encoder(config.encoder.path)}
    length = config.split.history_length
    return {
        "model": config.model.model_dump(),
        "ranking": config.ranking.model_dump(),
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
