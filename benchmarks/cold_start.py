"""New items and new users on Online Retail: homefeed beside the peers that can answer for them, in one run.

    python -m benchmarks.cold_start --archive online-retail.zip

The cut is that of `benchmarks/recommenders.py`. New items are in the catalogue and have no event before it: of what
users with a history bought of them after it, how much is among the first 100 of all items? Peers that can rank an item
that nobody has had compare texts. New users have no event before the cut: their first 1, 3 and 5 items are the history
of a request, what they bought later is relevant.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.recommenders import ease, item_knn, peer_lists, popularity
from benchmarks.splits import DATASETS, Log, measure
from benchmarks.workspace import ask, pushed_model, run_homefeed
from schema import names
from schema.saved_model import ServableModel

_HISTORIES = (1, 3, 5)
_NEW_ITEMS_K = 100
_FOLDED_IN: dict[str, dict[str, Any]] = {
    "iALS": {"factors": 128, "regularization": 10.0, "alpha": 1.0},
    "SASRec": {"factors": 128, "blocks": 2, "dropout": 0.2, "epochs": 5},
}
Rank = Callable[[list[list[int]], int], np.ndarray]  # (histories, oldest first; k) to [users, k] items


def by_matrix(weights: np.ndarray) -> Rank:
    """Lists by the sum of the history's rows."""

    def rank(histories: list[list[int]], k: int) -> np.ndarray:
        scores = np.stack([weights[history].sum(axis=0) for history in histories])
        for row, history in zip(scores, histories, strict=True):
            row[history] = -np.inf
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]

    return rank


def item_weights(log: Log, make: Callable[..., Callable[[np.ndarray], np.ndarray]], **settings: float) -> np.ndarray:
    """[items, items]: an item-based peer's own weights, asked for by users who have had one item each."""
    items = len(log.item_names)
    ones = Log(
        np.concatenate([log.users, len(log.user_names) + np.arange(items)]),
        np.concatenate([log.items, np.arange(items)]),
        np.concatenate([log.timestamps, np.full(items, log.timestamps[-1])]),
        [*log.user_names, *(f"only {name}" for name in log.item_names)],
        log.item_names,
    )
    return make(ones, **settings)(len(log.user_names) + np.arange(items))


def texts(log: Log, catalog: dict[str, dict[str, str]]) -> np.ndarray:
    """[items, items] cosines of the titles' TF-IDF."""
    vectors = TfidfVectorizer().fit_transform([catalog[name]["title"] for name in log.item_names])
    return (vectors @ vectors.T).toarray()


def homefeed(model: ServableModel, log: Log, asked: dict[str, list[Any]]) -> Rank:
    """Lists that the exported model gives; without `user_id`, to somebody with the request's history."""

    def rank(histories: list[list[int]], k: int) -> np.ndarray:
        newest = [[log.item_names[i].encode() for i in reversed(history)] for history in histories]
        nobody: dict[str, list[Any]] = {names.USER_ID: [b""] * len(newest), names.HISTORY_ITEM_IDS: newest}
        return ask(model, log, k, asked if names.USER_ID in asked else {**asked, **nobody})

    return rank


def new_users(log: Log, before: Log, n: int) -> Iterator[tuple[list[int], set[int], int]]:
    """(first n items, items bought later, moment after the n-th) of each user who is not in `before`."""
    known = set(before.users.tolist())
    firsts: dict[int, dict[int, int]] = {}
    for user, item, moment in zip(log.users.tolist(), log.items.tolist(), log.timestamps.tolist(), strict=True):
        if user not in known:
            firsts.setdefault(user, {}).setdefault(item, moment)
    for items in firsts.values():
        history = list(items)[:n]
        if len(items) > n:
            yield history, set(items) - set(history), items[history[-1]] + 1


def histories_only(log: Log, histories: list[list[int]]) -> Log:
    """The histories as a log of as many users, whom nobody knows."""
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    order = np.concatenate([np.arange(len(history)) for history in histories])
    newest = int(log.timestamps[-1])
    return Log(
        users, np.concatenate(histories), newest + order, [f"new {i}" for i in range(len(histories))], log.item_names
    )


def folded_in(name: str, before: Log, log: Log, groups: list[list[list[int]]], k: int, python: str) -> list[np.ndarray]:
    """Lists of a peer, trained once, for groups of histories."""
    everybody = [history for group in groups for history in group]
    users = np.arange(len(everybody))
    found = peer_lists(name, _FOLDED_IN[name], before, users, k, python, histories_only(log, everybody))
    lists = np.stack([found[user] for user in users.tolist()])
    return np.split(lists, np.cumsum([len(group) for group in groups])[:-1])


def new_user_table(log: Log, before: Log, similar: np.ndarray, full: ServableModel, k: int, python: str) -> Table:
    """Everybody who can answer for a history that no training has seen; the settings are those that
    `benchmarks/recommenders.py` finds on the same split."""
    peers = {
        "popularity": np.tile(popularity(before)(np.zeros(1, int)), (len(log.item_names), 1)),
        "recent popularity": np.tile(popularity(before, 0.05)(np.zeros(1, int)), (len(log.item_names), 1)),
        "item-kNN": item_weights(before, item_knn, neighbours=50, shrink=0.0),
        "EASE^R": item_weights(before, ease, regularisation=300.0),
        "TF-IDF of titles": similar,
    }
    columns = [f"{n} items" for n in _HISTORIES]
    table = Table("method", *columns, title=f"New users: Recall@{k} / NDCG@{k} by history")
    cells: dict[str, list[str]] = {}
    groups = [list(new_users(log, before, n)) for n in _HISTORIES]
    histories = [[history for history, _, _ in group] for group in groups]
    folded = {name: folded_in(name, before, log, histories, k, python) for name in _FOLDED_IN}
    for i, group in enumerate(groups):
        later = {user: items for user, (_, items, _) in enumerate(group)}
        ranks = {name: by_matrix(weights) for name, weights in peers.items()}
        ranks["homefeed"] = homefeed(full, log, {names.TIMESTAMP: [moment for _, _, moment in group]})
        lists = {name: rank(histories[i], k) for name, rank in ranks.items()}
        for name, theirs in {**lists, **{name: parts[i] for name, parts in folded.items()}}.items():
            recall, ndcg = measure(dict(enumerate(theirs)), later, k)
            cells.setdefault(name, []).append(f"{recall:.4f} / {ndcg:.4f}")
    for name, row in cells.items():
        table.add_row(name, *row)
    return table


@click.command()
@click.option("--archive", required=True, type=click.Path(exists=True, path_type=Path), help="The Online Retail zip.")
@click.option("--peer-python", default=".venv-peers/bin/python", show_default=True, help="From `make peers`.")
@click.option("--set", "settings", multiple=True, help="Passed on to `homefeed run`.")
def main(archive: Path, peer_python: str, settings: tuple[str, ...]) -> None:
    """Prints the figure of known users and both tables."""
    read, protocol, own = DATASETS["online-retail"]
    log, catalog = read(archive)
    before, relevant, _ = protocol.part(log)
    fresh = set(range(len(log.item_names))) - set(before.items.tolist())
    similar, console = texts(log, catalog), Console()
    with tempfile.TemporaryDirectory() as first:
        full = pushed_model(run_homefeed(before, catalog, (*own, *settings), Path(first)))
    theirs = ask(full, log, protocol.k, {names.USER_ID: [log.user_names[user].encode() for user in relevant]})
    recall, ndcg = measure(dict(enumerate(theirs)), dict(enumerate(relevant.values())), protocol.k)
    console.print(f"Known users, for comparison: Recall@{protocol.k} {recall:.4f}, NDCG@{protocol.k} {ndcg:.4f}")
    console.print(new_user_table(log, before, similar, full, protocol.k, peer_python))

    users = [user for user, items in relevant.items() if items & fresh]
    only_new = {i: relevant[user] & fresh for i, user in enumerate(users)}
    matrix = before.matrix()
    histories = [matrix[user].indices.tolist() for user in users]
    asked = {names.USER_ID: [log.user_names[user].encode() for user in users]}
    table = Table("method", f"Recall@{_NEW_ITEMS_K}", title=f"New items: {len(fresh)}, bought by {len(users)} users")

    def add(name: str, rank: Rank) -> None:
        lists = dict(enumerate(rank(histories, _NEW_ITEMS_K)))
        table.add_row(name, f"{measure(lists, only_new, _NEW_ITEMS_K)[0]:.4f}")

    add("TF-IDF of titles", by_matrix(similar))
    add("homefeed", homefeed(full, log, asked))
    with tempfile.TemporaryDirectory() as second:
        off = ("model.text=false", "ranking.channels.text=false")
        blind = pushed_model(run_homefeed(before, catalog, (*own, *settings, *off), Path(second)))
    add("homefeed without text", homefeed(blind, log, asked))
    console.print(table)


if __name__ == "__main__":
    main()
