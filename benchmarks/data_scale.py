"""InteractionGen and Transform from one to ten million events, beside plain pandas and beside two workers.

    python -m benchmarks.data_scale --events 1000000 10000000

Each row is a process of its own on the same generated log: how long the steps took (as ML Metadata has it, or pandas'
clock), rows of the log per second, and the peak resident memory of the process and its children; and the same of the
process which read and validated the log before.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet
from rich.console import Console
from rich.table import Table

import pipeline.quiet  # noqa: F401  (before anything imports TensorFlow)
from schema import names

_ITEMS, _DAYS, _START = 5_000, 60, 1_735_689_600  # 2025-01-01
_EVENTS = {"view": 0.70, "click": 0.20, "cart": 0.06, "purchase": 0.04}
_WEIGHTS = {"view": 1.0, "click": 1.0, "cart": 2.0, "purchase": 4.0}
_HISTORY = 50


def write_log(folder: Path, events: int, seed: int = 1) -> None:
    """A generated log in daily Parquet files, and its catalogue: one user for every forty events, both users and items
    of skewed activity, in sessions."""
    rng = np.random.default_rng(seed)
    users = max(1, events // 40)
    sessions = events // 8
    session_user = rng.choice(users, sessions, p=_skewed(users, 0.6))
    session_start = _START + rng.integers(0, _DAYS * 86_400 - 7_200, sessions)
    session = np.sort(rng.integers(0, sessions, events))
    # A user likes a few hundred items, and comes back to them.
    taste = (session_user[session].astype(np.int64) * 7_919) % _ITEMS
    item = (taste + rng.choice(_ITEMS, events, p=_skewed(_ITEMS, 1.0))) % _ITEMS
    moment = session_start[session] + rng.integers(0, 3_600, events)
    kinds = rng.choice(len(_EVENTS), events, p=list(_EVENTS.values()))
    log = pa.table(
        {
            names.USER_ID: _coded(session_user[session], [f"U{n:07d}" for n in range(users)]),
            names.ITEM_ID: _coded(item, [f"P{n:05d}" for n in range(_ITEMS)]),
            names.EVENT: _coded(kinds, list(_EVENTS)),
            names.TIMESTAMP: pa.array(moment),
        }
    )
    days = (moment - _START) // 86_400
    for day in range(_DAYS + 1):
        rows = log.filter(pa.array(days == day))
        path = folder / names.BEHAVIORS / str(np.datetime64("2025-01-01") + day) / "behaviors.parquet"
        if rows.num_rows:
            path.parent.mkdir(parents=True)
            pa.parquet.write_table(rows, path)
    (folder / names.CATALOG).mkdir(parents=True)
    catalog = {names.ITEM_ID: [f"P{n:05d}" for n in range(_ITEMS)], names.TITLE: [f"Thing {n}" for n in range(_ITEMS)]}
    pa.parquet.write_table(pa.table(catalog), folder / names.CATALOG / "catalog.parquet")


def _coded(codes: np.ndarray, values: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values))


def _skewed(count: int, power: float) -> np.ndarray:
    weights = 1 / (np.arange(count) + 10) ** power
    return weights / weights.sum()


def with_pandas(folder: Path) -> float:
    """The same job in plain pandas: dedup, the catalogue's items only, cut by time, an example of each first event with
    the latest distinct items before it, users as of the end, ids as indices; written as Parquet. Returns seconds."""
    start = time.monotonic()
    columns = [names.USER_ID, names.ITEM_ID, names.EVENT, names.TIMESTAMP]
    files = sorted((folder / names.BEHAVIORS).glob("*/*.parquet"))
    log = pd.concat(pd.read_parquet(path).astype(dict.fromkeys(columns[:3], str)) for path in files)
    log = log.drop_duplicates(columns).reset_index(drop=True)
    catalog = pd.read_parquet(folder / names.CATALOG)
    log = log[log[names.ITEM_ID].isin(catalog[names.ITEM_ID])]
    log["weight"] = log[names.EVENT].map(_WEIGHTS)
    log["session"] = log.sort_values(names.TIMESTAMP).groupby(names.USER_ID)[names.TIMESTAMP].diff().gt(1_800)
    log = log.sort_values([names.USER_ID, names.TIMESTAMP, names.ITEM_ID, names.EVENT])
    cut = log[names.TIMESTAMP].quantile(0.9)
    items = {item: code for code, item in enumerate(sorted(catalog[names.ITEM_ID]))}
    events = {event: code for code, event in enumerate(_WEIGHTS)}
    log["item"], log["kind"] = log[names.ITEM_ID].map(items), log[names.EVENT].map(events)
    train, users = [], []
    for user, rows in log.groupby(names.USER_ID, sort=False):
        known: dict[int, tuple[int, int]] = {}
        for item, kind, moment, weight in zip(
            rows["item"].tolist(), rows["kind"].tolist(), rows[names.TIMESTAMP].tolist(), rows["weight"].tolist(),
            strict=True,
        ):  # fmt: skip
            if moment < cut and item not in known:
                history = list(known.items())[-_HISTORY:][::-1]
                train.append((user, moment, item, weight, *([list(c) for c in zip(*history, strict=True)] or [[], []])))
            known.pop(item, None)
            known[item] = (kind, moment)
        users.append((user, list(known)[-_HISTORY:][::-1], sorted(known)))
    header = [names.USER_ID, names.TIMESTAMP, "target", "weight", "history", "history_facts"]
    for name, part, head in (("train", train, header), ("users", users, [names.USER_ID, "history", "seen"])):
        pd.DataFrame(part, columns=head).to_parquet(folder / f"{name}.parquet")
    return time.monotonic() - start


def with_homefeed(folder: Path, workspace: Path, cache: Path, workers: int) -> tuple[dict[str, float], float, float]:
    """Seconds of each step; peak memory in GiB of the process that validates the log and of the one that runs
    InteractionGen and Transform after it."""
    peaks: list[float] = []
    for until in ("DataGate", "Transform"):
        command = [sys.executable, "-m", "pipeline.cli", "run", "--until", until, "--workspace", str(workspace)]
        command += ["--behaviors", str(folder / names.BEHAVIORS), "--catalog", str(folder / names.CATALOG)]
        command += ["--set", f"beam.workers={workers}", "--set", f"encoder.cache={cache}"]
        peaks.append(_watched(command))
    from pipeline.local_runner import metadata_of
    from pipeline.outcome import read_outcome

    outcome = read_outcome(metadata_of(workspace))
    return {step: seconds for step, (_, seconds) in outcome.steps.items()}, peaks[0], peaks[1]


def _watched(command: list[str]) -> float:
    """Runs a command; returns the peak resident memory of it and its children together, in GiB."""
    peak = 0
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said) as process,
    ):
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                family = [watched, *watched.children(recursive=True)]
                peak = max(peak, sum(member.memory_info().rss for member in family))
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.2)
        if process.returncode:
            said.seek(0)
            raise SystemExit(said.read())
    return peak / 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-pandas", action="store_true", help="leave pandas out")
    parser.add_argument("--pandas-only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pandas_only:
        print(json.dumps(with_pandas(Path(arguments.pandas_only))))
        return 0
    table = Table(
        "events", "what", "InteractionGen", "Transform", "together", "events/s", "peak memory", title="Seconds"
    )
    totals: dict[tuple[int, int], float] = {}
    with tempfile.TemporaryDirectory() as place:
        cache = Path(place, "embeddings")
        for events in arguments.events:
            folder = Path(place, f"log-{events}")
            write_log(folder, events)
            for workers in arguments.workers:
                seconds, before, peak = with_homefeed(folder, Path(place, f"w-{events}-{workers}"), cache, workers)
                parts = seconds["InteractionGen"], seconds["Transform"]
                totals[events, workers] = sum(parts)
                cells = [f"{value:.0f}" for value in (*parts, sum(parts))]
                what = f"homefeed, {workers} worker{'s' if workers > 1 else ''}"
                table.add_row(
                    f"{events:,}", what, *cells, f"{events / sum(parts):,.0f}", f"{peak:.2f} GiB", f"{before:.2f} GiB"
                )
                _say(table)
            if not arguments.no_pandas:
                command = [sys.executable, "-m", "benchmarks.data_scale", "--pandas-only", str(folder)]
                start = time.monotonic()
                peak = _watched(command)
                took = time.monotonic() - start
                table.add_row(
                    f"{events:,}", "pandas", "", "", f"{took:.0f}", f"{events / took:,.0f}", f"{peak:.2f} GiB"
                )
                _say(table)
    few, many = min(arguments.events), max(arguments.events)
    for workers in arguments.workers:
        if few != many:
            ratio = totals[many, workers] / totals[few, workers]
            print(f"{workers} worker(s): {many / few:g} times the events take {ratio:.1f} times as long.")
    return 0


def _say(table: Table) -> None:
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
