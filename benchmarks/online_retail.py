"""Online Retail: homefeed beside popularity, item-kNN and EASE^R, on one split, in one run.

    python -m benchmarks.online_retail --archive online-retail.zip

Protocol: rows of positive quantity with a customer; one global cut in time at the last tenth of the rows; for each user
with a history, the items bought after the cut and never before; all items are ranked, those already bought left out.
Recall@20 is divided by min(20, relevant). Nothing after the cut is seen by any method. homefeed is run as a user runs
it: `homefeed data`, `homefeed run`, `homefeed recommend`.
"""

import csv
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import scipy.sparse as sp
from rich.console import Console
from rich.table import Table

from pipeline.data.online_retail import invoice_rows
from schema import names

K = 20


class Split:
    """The rows before the cut as a user-item matrix, and what each warm user bought after it for the first time."""

    def __init__(self, archive: Path):
        rows = sorted(_rows(archive))
        self.cut = rows[int(len(rows) * 0.9)][0]
        before = [row for row in rows if row[0] < self.cut]
        self.users = {user: i for i, user in enumerate(sorted({row[1] for row in before}))}
        self.items = sorted({row[2] for row in before})
        index = {item: i for i, item in enumerate(self.items)}
        self.row_user = np.array([self.users[row[1]] for row in before])
        self.row_item = np.array([index[row[2]] for row in before])
        shape = (len(self.users), len(self.items))
        self.matrix = sp.csr_matrix((np.ones(len(before), np.float32), (self.row_user, self.row_item)), shape)
        self.matrix.data[:] = 1
        had: dict[str, set[str]] = defaultdict(set)
        for _, user, item in before:
            had[user].add(item)
        self.relevant: dict[str, set[str]] = defaultdict(set)
        for moment, user, item in rows:
            if moment >= self.cut and user in had and item not in had[user]:
                self.relevant[user].add(item)


def _rows(archive: Path) -> list[tuple[str, str, str]]:
    """(moment as ISO text, user, item) of every sale to a customer."""
    with zipfile.ZipFile(archive) as file:
        return [
            (row["InvoiceDate"], str(int(float(row["CustomerID"]))), row["StockCode"].strip().upper())
            for row in invoice_rows(file)
            if row["CustomerID"] and float(row["Quantity"]) > 0
        ]


def measure(lists: dict[str, list[str]], relevant: dict[str, set[str]]) -> tuple[float, float]:
    """Mean Recall@K and NDCG@K over users; a user without a list scores 0."""
    recalls, gains = [], []
    discounts = 1 / np.log2(np.arange(2, K + 2))
    for user, items in relevant.items():
        hits = np.array([item in items for item in lists.get(user, [])[:K]], float)
        hits = np.pad(hits, (0, K - len(hits)))
        best = min(K, len(items))
        recalls.append(hits.sum() / best)
        gains.append((hits * discounts).sum() / discounts[:best].sum())
    return float(np.mean(recalls)), float(np.mean(gains))


def top_lists(split: Split, scores: np.ndarray) -> dict[str, list[str]]:
    """Lists of every user to be measured; `scores` is [users, items], or [items] for everybody alike."""
    lists = {}
    for user in split.relevant:
        row = split.users[user]
        theirs = (scores if scores.ndim == 1 else scores[row]).astype(float).copy()
        theirs[split.matrix[row].indices] = -np.inf
        lists[user] = [split.items[i] for i in np.argsort(-theirs, kind="stable")[:K]]
    return lists


def popularity(split: Split, share: float) -> np.ndarray:
    """Distinct buyers of each item in the last share of the rows before the cut."""
    start = int(len(split.row_item) * (1 - share))
    bought = np.unique(np.stack([split.row_user[start:], split.row_item[start:]]), axis=1)
    return np.bincount(bought[1], minlength=len(split.items))


def item_knn(split: Split) -> np.ndarray:
    """Cosine between items, summed over what a user bought."""
    norms = np.sqrt(np.asarray(split.matrix.sum(axis=0)).ravel())
    unit = split.matrix @ sp.diags(1 / norms)
    similar = (unit.T @ unit).toarray()
    np.fill_diagonal(similar, 0)
    return split.matrix @ similar


def ease(split: Split, regularisation: float = 300.0) -> np.ndarray:
    """EASE^R (Steck 2019, arXiv 1905.03375)."""
    gram = (split.matrix.T @ split.matrix).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += regularisation
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return split.matrix @ weights


def homefeed_lists(split: Split, archive: Path, folder: Path, settings: tuple[str, ...]) -> dict[str, list[str]]:
    """Runs the command line on the rows before the cut and reads its lists."""
    data, workspace, lists = folder / "data", folder / "workspace", folder / "lists.csv"
    _homefeed("data", "online-retail", "--archive", archive, "--out", data)
    _leave_out_from(data / names.BEHAVIORS, split.cut)
    changes = [part for setting in settings for part in ("--set", setting)]
    tables = ("--behaviors", data / names.BEHAVIORS, "--catalog", data / names.CATALOG)
    _homefeed("run", *tables, "--workspace", workspace, *changes)
    model = workspace / "serving" / names.MODEL_NAME
    _homefeed("recommend", "--model", model, "--users", "all", "--k", K, "--out", lists)
    found = defaultdict(list)
    with lists.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row[names.USER_ID]].append(row[names.ITEM_ID])
    return found


def _homefeed(*arguments: object) -> None:
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def _leave_out_from(behaviors: Path, cut: str) -> None:
    """Removes every event from the cut on."""
    moment = int(np.datetime64(cut).astype("datetime64[s]").astype(int))
    for file in behaviors.glob("*/*.csv"):
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            kept = [row for row in reader if int(row[names.TIMESTAMP]) < moment]
            columns = reader.fieldnames or []
        if not kept:
            file.unlink()
            continue
        with file.open("w", encoding="utf-8", newline="") as lines:
            writer = csv.DictWriter(lines, columns)
            writer.writeheader()
            writer.writerows(kept)


@click.command()
@click.option("--archive", required=True, type=click.Path(exists=True, path_type=Path), help="The Online Retail zip.")
@click.option("--set", "settings", multiple=True, help="Passed on to `homefeed run`.")
@click.option("--out", type=click.Path(path_type=Path), help="Keeps data, workspace and lists in this new folder.")
def main(archive: Path, settings: tuple[str, ...], out: Path | None) -> None:
    """Prints the table."""
    split = Split(archive)
    methods: dict[str, Callable[[], dict[str, list[str]]]] = {
        "popularity, all time": lambda: top_lists(split, popularity(split, 1.0)),
        "popularity, last tenth": lambda: top_lists(split, popularity(split, 0.1)),
        "item-kNN, cosine": lambda: top_lists(split, item_knn(split)),
        "EASE^R, lambda 300": lambda: top_lists(split, ease(split)),
    }
    with tempfile.TemporaryDirectory() as scratch:
        methods["homefeed"] = lambda: homefeed_lists(split, archive, out or Path(scratch), settings)
        title = f"Online Retail, cut {split.cut}, {len(split.relevant)} users, {len(split.items)} items"
        table = Table("method", f"Recall@{K}", f"NDCG@{K}", "seconds", title=title)
        for name, method in methods.items():
            start = time.perf_counter()
            recall, ndcg = measure(method(), split.relevant)
            table.add_row(name, f"{recall:.4f}", f"{ndcg:.4f}", f"{time.perf_counter() - start:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
