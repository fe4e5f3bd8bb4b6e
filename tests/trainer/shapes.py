"""A tiny catalogue and log for tests of the model's parts, made without a pipeline."""

import numpy as np

from trainer.data import Catalog, Pairs, Ragged, States, ragged
from trainer.weights import Vocabulary

DAY = 86_400
EVENTS = 2


def catalog_of(items: int, seed: int = 0) -> Catalog:
    random = np.random.default_rng(seed)
    texts = random.normal(size=(items, 6)).astype(np.float32)
    return Catalog(
        item_ids=np.array([f"i{n}".encode() for n in range(items)], object),
        categories=random.integers(-1, 3, (items, 2)),
        prices=random.normal(size=items).astype(np.float32),
        popularity=np.abs(random.normal(size=(items, 2, 3))).astype(np.float32),
        text_embeddings=texts / np.linalg.norm(texts, axis=1, keepdims=True),
        sentiment=random.uniform(-1, 1, (items, 3)).astype(np.float32),
        texts=np.array([f"text {n}".encode() for n in range(items)], object),
        snapshots=np.array([0, 50 * DAY, 100 * DAY]),
    )


def vocabulary_of(users: int, catalog: Catalog) -> Vocabulary:
    """Names for `catalog_of` and `states_of`."""
    categories = [f"c{n}".encode() for n in range(int(catalog.categories.max()) + 1)]
    return Vocabulary(
        [f"u{n}".encode() for n in range(users)], [b"view", b"buy"], categories, catalog.item_ids.tolist()
    )


def states_of(count: int, items: int, length: int = 4, window: int = 0, seed: int = 1) -> States:
    """Users with histories of any length up to `length`; each turned to two items that they had not had."""
    random = np.random.default_rng(seed + window)
    histories = np.full((count, length), -1, np.int32)
    targets = []
    for row in range(count):
        had = random.choice(items, int(random.integers(0, length + 1)), replace=False)
        histories[row, : len(had)] = had
        targets.append(random.choice(np.setdiff1d(np.arange(items), had), 2, replace=False))
    present = histories >= 0
    times = np.where(present, 80 * DAY - np.arange(length) * DAY, 0)
    events: Ragged = ragged([random.integers(0, EVENTS, 2) for _ in range(count)])
    return States(
        user_ids=np.array([f"u{n}".encode() for n in range(count)], object),
        users=np.arange(count),
        traits=random.integers(-1, 5, (count, 2)).astype(np.int32),
        moments=np.full(count, 90 * DAY),
        histories=histories,
        history_events=np.where(present, 1, 0).astype(np.int32),
        history_times=times,
        seen=ragged([row[row >= 0] for row in histories]),
        targets=ragged(targets),
        target_events=events,
        windows=np.full(count, window),
    )


def pairs_of(states: States) -> Pairs:
    """What the states' users have had, before any window."""
    users = np.repeat(states.users, np.diff(states.seen.splits))
    zeros = np.zeros(len(users), np.int64)
    return Pairs(users, states.seen.values.astype(np.int64), zeros + 70 * DAY, zeros)
