"""What one more day costs: Online Retail's year of days, then its last day on top.

    python -m benchmarks.span_cost --archive online-retail.zip

Runs `homefeed run --until TextEmbeddingGen` on every day but the last, then on all of them, then once more unchanged,
in one workspace, and prints each step's seconds, how many days were read, and how many texts were embedded.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import tensorflow as tf
from rich.console import Console
from rich.table import Table

import pipeline.quiet  # noqa: F401
from pipeline.config import load_config
from pipeline.data.online_retail import write_online_retail
from pipeline.local_runner import run_locally
from schema import names


def new_texts(workspace: Path) -> int:
    """How many texts the newest run embedded."""
    folders = (workspace / "artifacts" / "TextEmbeddingGen" / "text_embeddings").iterdir()
    folder = max(folders, key=lambda path: int(path.name))
    files = [str(path) for path in folder.glob("text_embeddings-new*.gz")]
    return sum(1 for _ in tf.data.TFRecordDataset(files, compression_type="GZIP"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        shop, workspace = Path(place, "retail"), Path(place, "w")
        write_online_retail(str(shop), arguments.archive)
        days = sorted((shop / names.BEHAVIORS).iterdir())
        last = days[-1].rename(Path(place, days[-1].name))
        folders = {table: str(shop / table) for table in (names.BEHAVIORS, names.CATALOG)}
        runs = {}
        for label in (f"{len(days) - 1} days", "one day more", "unchanged"):
            if label == "one day more":
                last.rename(days[-1])
            before = set(workspace.glob("cache/examples/behaviors/*/*/done.json"))
            outcome = run_locally(load_config(), folders, str(workspace), "TextEmbeddingGen")
            read = set(workspace.glob("cache/examples/behaviors/*/*/done.json")) - before
            cached = outcome.steps["TextEmbeddingGen"][0] == "cached"
            runs[label] = (outcome.steps, len(read), 0 if cached else new_texts(workspace))
    table = Table("step", *runs, title="Seconds")
    for step in next(iter(runs.values()))[0]:
        states = [steps[step] for steps, _, _ in runs.values()]
        table.add_row(step, *("cached" if state == "cached" else f"{seconds:.1f}" for state, seconds in states))
    totals = [sum(s for state, s in steps.values() if state != "cached") for steps, _, _ in runs.values()]
    table.add_row("all", *(f"{total:.1f}" for total in totals), style="bold")
    table.add_row("days read", *(str(read) for _, read, _ in runs.values()))
    table.add_row("texts embedded", *(str(texts) for _, _, texts in runs.values()))
    Console(width=100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
