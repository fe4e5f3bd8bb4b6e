"""The data sets of the recommendation benchmark, each with its protocol: what may be learned from, what is relevant."""

import csv
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from components.example_maker import DAY
from components.interactions import BY_TIME, LEAVE_LAST
from pipeline.data.online_retail import invoice_rows


@dataclass(frozen=True)
class Log:
    """Events in the order of time; `users` and `items` are indices into the names.

    Attributes:
      users, items: [events] int64.
      timestamps: [events] int64, seconds since 1970 UTC.
      user_names, item_names: ids.
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    user_names: list[str]
    item_names: list[str]

    def take(self, rows: np.ndarray) -> "Log":
        return Log(self.users[rows], self.items[rows], self.timestamps[rows], self.user_names, self.item_names)

    def matrix(self) -> sp.csr_matrix:
        """[users, items] float32, 1 where the user has had the item."""
        cells = (np.ones(len(self.users), np.float32), (self.users, self.items))
        matrix = sp.csr_matrix(cells, (len(self.user_names), len(self.item_names)))
        matrix.data[:] = 1
        return matrix


class Parted(NamedTuple):
    """A log that is parted.

    Attributes:
      before: what may be learned from.
      relevant: user -> items.
      moments: user -> when they come back, seconds since 1970 UTC: that of the first event that is left out, by
        leave_last, as the pipeline's own Evaluator has it; else 0, for now.
    """

    before: Log
    relevant: dict[int, set[int]]
    moments: dict[int, int]


@dataclass(frozen=True)
class Protocol:
    """How a log is parted, and what is measured.

    Attributes:
      by: at one moment (`time`: the last tenth of the events), or each user's last items (`leave_last`).
      last: items of each user, by leave_last.
      k: length of the lists.
    """

    by: str
    k: int
    last: int = 0

    def part(self, log: Log) -> "Parted":
        """Relevant is what the user had not had before; users without a history are left out."""
        if self.by == BY_TIME:
            is_before = log.timestamps < log.timestamps[int(len(log.timestamps) * 0.9)]
        else:
            latest = np.lexsort((np.arange(len(log.users)), log.users))[::-1]
            users = log.users[latest]
            starts = np.concatenate([[True], users[1:] != users[:-1]])
            rank = np.arange(len(users)) - np.maximum.accumulate(np.where(starts, np.arange(len(users)), 0))
            is_before = np.ones(len(users), bool)
            counts = np.bincount(log.users, minlength=len(log.user_names))
            is_before[latest] = (rank >= self.last) | (counts[users] <= self.last)
        before, after = log.take(np.flatnonzero(is_before)), log.take(np.flatnonzero(~is_before))
        seen = before.matrix()
        relevant: dict[int, set[int]] = {}
        moments: dict[int, int] = {}
        for user, item, moment in zip(
            after.users.tolist(), after.items.tolist(), after.timestamps.tolist(), strict=True
        ):
            had = seen.indices[seen.indptr[user] : seen.indptr[user + 1]]
            if len(had) and item not in had:
                relevant.setdefault(user, set()).add(item)
                moments.setdefault(user, moment if self.by == LEAVE_LAST else 0)
        return Parted(before, relevant, moments)


def measure(lists: dict[int, np.ndarray], relevant: dict[int, set[int]], k: int) -> tuple[float, float]:
    """Mean Recall@k (divided by min(k, relevant)) and NDCG@k over users; a user without a list scores 0."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    recalls, gains = [], []
    for user, items in relevant.items():
        hits = np.isin(lists.get(user, np.zeros(0, int))[:k], list(items)).astype(float)
        best = min(k, len(items))
        recalls.append(hits.sum() / best)
        gains.append((hits * discounts[: len(hits)]).sum() / discounts[:best].sum())
    return float(np.mean(recalls)), float(np.mean(gains))


def _log(rows: list[tuple[int, str, str]]) -> Log:
    """(seconds, user, item) rows, which keep their order where the seconds are equal."""
    rows = sorted(rows, key=lambda row: row[0])
    users, items = sorted({row[1] for row in rows}), sorted({row[2] for row in rows})
    user_index, item_index = ({name: i for i, name in enumerate(found)} for found in (users, items))
    return Log(
        np.array([user_index[row[1]] for row in rows]),
        np.array([item_index[row[2]] for row in rows]),
        np.array([row[0] for row in rows]),
        users,
        items,
    )


def online_retail(archive: Path) -> tuple[Log, dict[str, dict[str, str]]]:
    """Sales of positive quantity to customers; titles and prices of the stock codes."""
    rows: list[tuple[int, str, str]] = []
    titles: dict[str, Counter[str]] = {}
    prices: dict[str, list[float]] = {}
    with zipfile.ZipFile(archive) as file:
        for row in invoice_rows(file):
            if row["CustomerID"] and float(row["Quantity"]) > 0:
                item = row["StockCode"].strip().upper()
                moment = int(np.datetime64(row["InvoiceDate"], "s").astype(int))
                rows.append((moment, str(int(float(row["CustomerID"]))), item))
                titles.setdefault(item, Counter())[" ".join(row["Description"].split())] += 1
                prices.setdefault(item, []).append(float(row["UnitPrice"]))
    catalog = {
        item: {"title": min(found, key=lambda t: (-found[t], t)), "price": str(np.median(prices[item]))}
        for item, found in titles.items()
    }
    return _log(rows), catalog


def amazon_beauty(archive: Path) -> tuple[Log, dict[str, dict[str, str]]]:
    """Reviews without timestamps: a user's n-th is taken to be of day n."""
    with zipfile.ZipFile(archive) as file:
        sequences = [line.split() for line in file.read("sequences.txt").decode().splitlines()]
        items = list(csv.DictReader(io.StringIO(file.read("items.csv").decode())))
    rows = [((n + 1) * DAY, user, item) for user, *sequence in sequences for n, item in enumerate(sequence)]
    log = _log(rows)
    return log, {row["item_id"]: {"title": row["title"], "category": row["category"]} for row in items}


def movielens(archive: Path) -> tuple[Log, dict[str, dict[str, str]]]:
    """Every rating as an event."""
    with zipfile.ZipFile(archive) as file:
        ratings, movies = (
            list(csv.DictReader(io.StringIO(file.read(f"ml-latest-small/{name}.csv").decode())))
            for name in ("ratings", "movies")
        )
    log = _log([(int(row["timestamp"]), row["userId"], row["movieId"]) for row in ratings])
    return log, {row["movieId"]: {"title": row["title"], "category": row["genres"]} for row in movies}


# Data set -> (reader, protocol, `--set` of homefeed's that say how the data is parted).
DATASETS: dict[str, tuple[Callable[[Path], tuple[Log, dict[str, dict[str, str]]]], Protocol, tuple[str, ...]]] = {
    "online-retail": (online_retail, Protocol(BY_TIME, 20), ()),
    "amazon-beauty": (amazon_beauty, Protocol(LEAVE_LAST, 10, 1), ("split.by=leave_last", "split.leave_last=1")),
    "movielens": (movielens, Protocol(LEAVE_LAST, 10, 5), ("split.by=leave_last", "split.leave_last=5")),
}


def write_tables(log: Log, catalog: dict[str, dict[str, str]], folder: Path) -> None:
    """Writes behaviors/ and catalog/ as homefeed reads them; every event is a `purchase`."""
    for table in ("behaviors", "catalog"):
        (folder / table).mkdir(parents=True)
    with (folder / "behaviors" / "behaviors.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "event", "timestamp"])
        for user, item, moment in zip(log.users, log.items, log.timestamps, strict=True):
            writer.writerow([log.user_names[user], log.item_names[item], "purchase", moment])
    with (folder / "catalog" / "catalog.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title", "category", "price"])
        for item in sorted(catalog):
            row = catalog[item]
            writer.writerow([item, row["title"] or item, row.get("category", ""), row.get("price", "")])


def save(log: Log, file: Path) -> None:
    """The log's arrays for a process that has none of this package."""
    np.savez(
        file,
        users=log.users,
        items=log.items,
        timestamps=log.timestamps,
        sizes=[len(log.user_names), len(log.item_names)],
    )


def dumps(settings: Mapping[str, object]) -> str:
    """Settings in one short line."""
    return json.dumps(settings, sort_keys=True).strip("{}").replace('"', "")
