"""The embedded server beside the SavedModel in process: throughput, and the tail at half of it, over gRPC and REST.

    python -m benchmarks.serving_load --model w/serving/homefeed

The server is a process of its own, and so is the load; both share the machine with each other, as the model in process
shares it with nobody. "The same batching" is the server's own `BatchPool` in process, asked by as many threads.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from components.model_server import EMBEDDED_COMMAND, model_server
from pipeline.recommend import newest_version, read_users

_WARM_UP = 2.0  # seconds


def parameters(at_once: int) -> str:
    """BatchingParameters in text form: batches of up to so many requests, none of which waits for more."""
    return (
        f"max_batch_size {{ value: {at_once} }} batch_timeout_micros {{ value: 0 }} num_batch_threads {{ value: 2 }} "
        "max_enqueued_batches { value: 1000 } pad_variable_length_inputs: true"
    )


def apart(worker: str, *arguments: Any) -> dict[str, Any]:
    """A worker, `load` or `in_process`, in a process of its own, with the server's settings of TensorFlow."""
    command = [sys.executable, "-m", f"benchmarks.{worker}_worker", *map(str, arguments)]
    seconds = float(arguments[-1])
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60 + 3 * seconds, env=environment)
    if result.returncode:
        raise SystemExit(result.stderr[-2000:])
    return json.loads(result.stdout.splitlines()[-1])


@click.command()
@click.option("--model", required=True, type=click.Path(exists=True, path_type=Path), help="A folder of versions.")
@click.option("--at-once", default=16, show_default=True, help="Requests that are on their way at a time.")
@click.option("--seconds", default=15.0, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Medians of so many.")
@click.option("--flag", "more", multiple=True, help="Of the server, beside the batching's.")
def main(model: Path, at_once: int, seconds: float, rounds: int, more: tuple[str, ...]) -> None:
    """Prints the table."""
    folder = newest_version(model)
    users = read_users(folder / "assets" / "user_ids.txt")[:500]
    found: dict[str, list[tuple[float, float, float]]] = {"gRPC": [], "REST": []}
    own: list[tuple[float, float]] = []
    shares: dict[str, list[float]] = {"gRPC": [], "REST": []}
    with tempfile.TemporaryDirectory() as place:
        file, listed = Path(place, "batching.config"), Path(place, "users.txt")
        listed.write_bytes(b"\n".join(users))
        file.write_text(parameters(at_once))
        flags = [
            "--enable_batching=true",
            f"--batching_parameters_file={file}",
            "--grpc_max_threads=64",
            "--rest_api_num_threads=64",
            "--tensorflow_intra_op_parallelism=1",
            *more,
        ]

        def alone() -> float:
            told = apart("in_process", folder, listed, at_once, file, seconds)
            own.append((told["rate"], told["alone"]))
            return told["rate"]

        before = alone()
        for _ in range(rounds):
            with model_server([*EMBEDDED_COMMAND, *flags], str(model)) as (addresses, _process):
                for kind in found:
                    address = addresses[kind].split("://")[1]
                    apart("load", kind, address, listed, at_once, 0.0, _WARM_UP)
                    peak = apart("load", kind, address, listed, at_once, 0.0, seconds)
                    half = apart("load", kind, address, listed, at_once, peak["rate"] / 2, seconds)
                    if peak["errors"] or half["errors"]:
                        count, first = peak["errors"] + half["errors"], peak["first"] or half["first"]
                        raise SystemExit(f"{kind}: {count} requests failed: {first}")
                    p50, p99 = np.percentile(half["latencies"], [50, 99])
                    found[kind].append((peak["rate"], float(p50), float(p99)))
            after = alone()
            # A shared machine is now faster, now slower: a round is compared with what was just before and after.
            for kind, theirs in found.items():
                shares[kind].append(2 * theirs[-1][0] / (before + after))
            before = after
    rate, one_call = np.median(np.array(own), axis=0)
    table = Table(
        "", "requests/s", "of in process", "p50 at half", "p99 at half", "of one call", title=f"{at_once} at once"
    )
    table.add_row("in process, the same batching", f"{rate:.0f}", "1.00", "", "", "")
    table.add_row("in process, one call", f"{1000 / one_call:.0f}", "", f"{one_call:.1f} ms", "", "1.0")
    for kind, figures in found.items():
        answered, p50, p99 = np.median(np.array(figures), axis=0)
        row = (
            f"{answered:.0f}",
            f"{np.median(shares[kind]):.2f}",
            f"{p50:.1f} ms",
            f"{p99:.1f} ms",
            f"{p99 / one_call:.1f}",
        )
        table.add_row(kind, *row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
