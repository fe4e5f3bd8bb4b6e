"""How often the gates refuse an honest model: one shop, trained again and again with other seeds.

    python -m benchmarks.gate_seeds --retrainings 20

Every run goes the whole way and is compared with the last pushed model. What is refused here is refused by chance.
"""

import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from components.evaluation_results import ALL
from pipeline.config import load_config
from pipeline.data.sample import write_sample
from pipeline.local_runner import run_locally
from schema import names


@click.command()
@click.option("--retrainings", default=20, show_default=True)
@click.option("--events", default=24_000, show_default=True, help="Of the generated shop.")
@click.option("--set", "settings", multiple=True, help="Changes one key of the configuration.")
def main(retrainings: int, events: int, settings: tuple[str, ...]) -> None:
    """Prints a line for each training, and how many were refused."""
    table = Table("seed", "recall@20", "against the last pushed", "verdict")
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        write_sample(f"{folder}/shop", events=events, users=events // 34, products=events // 60, days=28, seed=5)
        tables = {name: f"{folder}/shop/{name}" for name in (names.BEHAVIORS, names.CATALOG)}
        for seed in range(1, retrainings + 2):
            config = load_config(None, ("batch.enabled=false", *settings, f"model.seed={seed}"))
            outcome = run_locally(config, tables, str(Path(folder) / "workspace"))
            found = outcome.evaluation.metrics[ALL]
            change = found.get("recall_at_20_change")
            verdict = "pushed" if outcome.pushed else " ".join(outcome.refusals)
            refused += outcome.pushed is None
            row = (str(seed), f"{found['recall_at_20']:.4f}", "" if change is None else f"{change:+.1%}", verdict)
            print(*row, flush=True)
            table.add_row(*row)
    console = Console(width=140)
    console.print(table)
    console.print(f"{refused} of {retrainings} honest retrainings were refused.")


if __name__ == "__main__":
    main()
