"""homefeed as a user runs it: the command line, in a process of its own."""

import subprocess
import sys
from pathlib import Path

from benchmarks.splits import Log, write_tables
from schema import names


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
