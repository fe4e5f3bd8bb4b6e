"""homefeed beside its peers on real data, on one split, in one run.

    python -m benchmarks.recommenders --data online-retail --archive online-retail.zip \\
        --peer-python .venv-peers/bin/python --trials 6

Every peer is tuned: so many settings, the first of its space in an order that the seed fixes, are tried on a validation
span that is parted from what may be learned from by the same protocol; the best (by NDCG) is trained on all that may be
learned from, and measured once. homefeed is run as a user runs it (`homefeed run`) with its defaults, and what it has
pushed is asked as a page asks it: for a user, at the moment when they come back. All items are ranked but those that
the user has had.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import plain_tfrs
from benchmarks.splits import DATASETS, Log, Parted, Protocol, dumps, measure, save
from benchmarks.workspace import ask, pushed_model, run_homefeed
from schema import names
from trainer.collaborative import ease_weights

Scores = Callable[[np.ndarray], np.ndarray]  # users to [users, items]
_PART = 512  # users that are ranked at once


def popularity(log: Log, share: float = 1.0) -> Scores:
    """Distinct users of each item in the last share of the log."""
    start = int(len(log.items) * (1 - share))
    pairs = np.unique(np.stack([log.users[start:], log.items[start:]]), axis=1)
    counts = np.bincount(pairs[1], minlength=len(log.item_names)).astype(np.float32)
    return lambda users: np.tile(counts, (len(users), 1))


def item_knn(log: Log, neighbours: int, shrink: float) -> Scores:
    """Cosine between items with shrinkage, summed over what a user has had."""
    matrix = log.matrix()
    gram = (matrix.T @ matrix).toarray()
    norms = np.sqrt(np.diag(gram))
    similar = gram / (np.outer(norms, norms) + shrink + 1e-9)
    np.fill_diagonal(similar, 0)
    least = -np.partition(-similar, neighbours - 1, axis=0)[neighbours - 1]
    similar[similar < least] = 0
    return lambda users: np.asarray(matrix[users] @ similar)


def ease(log: Log, regularisation: float) -> Scores:
    """EASE^R, whole: no neighbour is left out."""
    matrix = log.matrix()
    weights = ease_weights(matrix, regularisation)
    return lambda users: np.asarray(matrix[users] @ weights)


@dataclass(frozen=True)
class Peer:
    """A method and the values of its settings that are tried.

    Attributes:
      make: (log, **settings) -> scores; None for a method of `benchmarks/peer_methods.py`.
    """

    make: Callable[..., Scores] | None
    space: dict[str, tuple[Any, ...]]

    def trials(self, count: int) -> list[dict[str, Any]]:
        """The first settings of the space in an order that the seed fixes."""
        combinations = [
            dict(zip(self.space, values, strict=True)) for values in itertools.product(*self.space.values())
        ]
        order = np.random.default_rng(1).permutation(len(combinations))
        return [combinations[i] for i in order[:count]]


PEERS = {
    "popularity": Peer(popularity, {}),
    "recent popularity": Peer(popularity, {"share": (0.02, 0.05, 0.1, 0.2, 0.4)}),
    "item-kNN": Peer(item_knn, {"neighbours": (50, 200, 1000), "shrink": (0.0, 20.0, 100.0)}),
    "EASE^R": Peer(ease, {"regularisation": (50.0, 100.0, 200.0, 300.0, 600.0, 1000.0)}),
    "iALS": Peer(None, {"factors": (64, 128), "regularization": (0.1, 1.0, 10.0), "alpha": (1.0, 5.0, 20.0)}),
    "BPR": Peer(
        None,
        {
            "factors": (64, 128),
            "learning_rate": (0.02, 0.05),
            "regularization": (0.002, 0.02),
            "iterations": (100, 300),
        },
    ),
    "SASRec": Peer(None, {"factors": (64, 128), "blocks": (1, 2), "dropout": (0.2, 0.5), "epochs": (5, 20)}),
    "TFRS tutorial": Peer(plain_tfrs.train, {"dimensions": (32, 64), "learning_rate": (0.1, 0.03), "epochs": (1, 3)}),
}


def top_lists(log: Log, scores: Scores, users: np.ndarray, k: int) -> dict[int, np.ndarray]:
    """The best k items that each user has not had."""
    matrix, lists = log.matrix(), {}
    for part in (users[start : start + _PART] for start in range(0, len(users), _PART)):
        theirs = scores(part).astype(np.float64)
        rows, columns = matrix[part].nonzero()
        theirs[rows, columns] = -np.inf
        for user, row in zip(part.tolist(), theirs, strict=True):
            best = np.argpartition(-row, k)[:k]
            lists[user] = best[np.lexsort((best, -row[best]))]
    return lists


def peer_lists(
    name: str, settings: dict[str, Any], log: Log, users: np.ndarray, k: int, python: str, asked: Log | None = None
) -> dict[int, np.ndarray]:
    """Trains a peer and asks it for lists, of users of the log or of `asked`."""
    make = PEERS[name].make
    if make is not None:
        return top_lists(log, make(log, **settings), users, k)
    with tempfile.TemporaryDirectory() as folder:
        learned = histories = f"{folder}/log.npz"
        save(log, Path(learned))
        if asked is not None:
            histories = f"{folder}/asked.npz"
            save(asked, Path(histories))
        np.save(f"{folder}/users.npy", users)
        files = [learned, histories, f"{folder}/users.npy", str(k), f"{folder}/lists.npy"]
        method = [python, "benchmarks/peer_methods.py", name.lower(), json.dumps(settings)]
        subprocess.run([*method, *files], check=True, stdout=sys.stderr)
        return dict(zip(users.tolist(), np.load(f"{folder}/lists.npy"), strict=True))


def homefeed_lists(
    parted: Parted, catalog: dict[str, dict[str, str]], k: int, settings: tuple[str, ...], folder: Path
) -> dict[int, np.ndarray]:
    """`homefeed run` on the log, and what the pushed model answers to each user at the moment they come back."""
    log, users = parted.before, list(parted.relevant)
    model = pushed_model(run_homefeed(log, catalog, settings, folder))
    asked: dict[str, list[Any]] = {
        names.USER_ID: [log.user_names[user].encode() for user in users],
        names.TIMESTAMP: [parted.moments[user] for user in users],
    }
    return dict(zip(users, ask(model, log, k, asked), strict=True))


@dataclass(frozen=True)
class Result:
    """A line of the table."""

    method: str
    recall: float
    ndcg: float
    settings: str
    seconds: float


def tuned(name: str, log: Log, protocol: Protocol, trials: int, python: str, relevant: dict[int, set[int]]) -> Result:
    """Tunes a peer on a validation span of the log and measures it once."""
    start = time.perf_counter()
    candidates = PEERS[name].trials(trials)
    if len(candidates) > 1:
        before, validation, _ = protocol.part(log)
        users = np.array(sorted(validation))
        figures = []
        for settings in candidates:
            lists = peer_lists(name, settings, before, users, protocol.k, python)
            figures.append(measure(lists, validation, protocol.k)[1])
            print(f"{name}: {dumps(settings)}: validation NDCG {figures[-1]:.4f}", file=sys.stderr)
        candidates = [candidates[int(np.argmax(figures))]]
    lists = peer_lists(name, candidates[0], log, np.array(sorted(relevant)), protocol.k, python)
    recall, ndcg = measure(lists, relevant, protocol.k)
    return Result(name, recall, ndcg, dumps(candidates[0]), time.perf_counter() - start)


def run(
    data: str, archive: Path, trials: int, python: str, settings: tuple[str, ...], only: tuple[str, ...]
) -> Iterator[Result]:
    """Yields a result for each method."""
    read, protocol, own = DATASETS[data]
    log, catalog = read(archive)
    parted = protocol.part(log)
    before, relevant, _ = parted
    print(f"{data}: {len(before.users)} events, {len(log.item_names)} items, {len(relevant)} users", file=sys.stderr)
    for name in PEERS:
        if not only or name in only:
            yield tuned(name, before, protocol, trials, python, relevant)
    if not only or "homefeed" in only:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            lists = homefeed_lists(parted, catalog, protocol.k, (*own, *settings), Path(folder))
        recall, ndcg = measure(lists, relevant, protocol.k)
        yield Result(
            "homefeed", recall, ndcg, dumps(dict(s.split("=", 1) for s in settings)), time.perf_counter() - start
        )


@click.command()
@click.option("--data", required=True, type=click.Choice(list(DATASETS)))
@click.option("--archive", required=True, type=click.Path(exists=True, path_type=Path), help="The publisher's zip.")
@click.option("--peer-python", default=".venv-peers/bin/python", show_default=True, help="From `make peers`.")
@click.option("--trials", default=6, show_default=True, help="Settings that each peer tries.")
@click.option("--set", "settings", multiple=True, help="Passed on to `homefeed run`.")
@click.option("--only", multiple=True, help="Methods; all where none is named.")
def main(
    data: str, archive: Path, peer_python: str, trials: int, settings: tuple[str, ...], only: tuple[str, ...]
) -> None:
    """Prints the table."""
    k = DATASETS[data][1].k
    table = Table("method", f"Recall@{k}", f"NDCG@{k}", "seconds", "settings", title=data)
    for result in run(data, archive, trials, peer_python, settings, only):
        figures = (f"{result.recall:.4f}", f"{result.ndcg:.4f}", f"{result.seconds:.0f}")
        print(result.method, *figures, result.settings, file=sys.stderr)
        table.add_row(result.method, *figures, result.settings)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
