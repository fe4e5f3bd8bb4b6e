"""What a feed costs as the catalogue grows: all of it ranked for each user, or only what the channels propose.

    python -m benchmarks.feed_scale

The channels' whole graph, from a history to the hundred best, one user at a time, one thread. Towers and log are made
up: texts lie around centres, a user has what lies around three of them, and each feature counts by its deviation.
"Found" is the share of the whole catalogue's 20 best that is among the proposed.
"""

import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks.retrieval import draw
from pipeline.config import Config
from trainer.channels import NEVER, Channels, Crowd
from trainer.collaborative import Filters, interaction_matrix, learn_filters
from trainer.data import Catalog, Pairs, States, inputs_of, ragged
from trainer.fitting import embed_states
from trainer.pools import Among, Everything
from trainer.ranker import moments_of
from trainer.retrieval import Retriever
from trainer.towers import DAY
from trainer.two_tower import TwoTower

_MEMBERS = 200  # items around a centre
_TEXT, _LENGTH, _HAD = 96, 50, 20
_NOW = int(200 * DAY)
_K, _CHOSEN = 20, 100


def made_up(items: int, random: np.random.Generator) -> tuple[Catalog, States, np.ndarray]:
    """A catalogue, its users, and when each item had its first event; a fiftieth of the items is new."""
    centres = draw(max(items // _MEMBERS, 1), np.zeros((1, _TEXT), np.float32), 1.0, random)
    near = random.integers(len(centres), size=items)
    noise = 0.6 / _TEXT**0.5 * random.standard_normal((items, _TEXT)).astype(np.float32)
    texts = centres[near] + noise
    popularity = np.sort(random.exponential(size=(items, 3, 1)).astype(np.float32) ** 3, axis=1)[:, ::-1]
    catalog = Catalog(
        item_ids=np.arange(items).astype("S").astype(object),
        categories=(near % 50)[:, np.newaxis],
        prices=random.standard_normal(items).astype(np.float32),
        popularity=np.log1p(np.ascontiguousarray(popularity)),
        text_embeddings=(texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32),
        texts=np.full(items, b"", object),
        sentiment=np.zeros((items, 1), np.float32),
        snapshots=np.array([0]),
    )
    is_new = random.random(items) < 0.02
    members = [np.flatnonzero((near == centre) & ~is_new) for centre in range(len(centres))]
    count = items // 4
    histories = np.full((count, _LENGTH), -1, np.int32)
    for user in range(count):
        pool = np.concatenate([members[centre] for centre in random.choice(len(centres), 3)])
        histories[user, :_HAD] = random.permutation(pool)[:_HAD]
    had = [row[row >= 0] for row in histories]
    times = np.where(histories >= 0, _NOW - np.arange(_LENGTH) * int(DAY), 0)
    states = States(
        user_ids=np.arange(count).astype("S").astype(object),
        users=np.arange(count),
        traits=np.full((count, 1), -1, np.int32),
        moments=np.full(count, _NOW),
        histories=histories,
        history_events=np.zeros_like(histories),
        history_times=times,
        seen=ragged(had),
        targets=ragged([row[:1] for row in had]),
        target_events=ragged([row[:1] * 0 for row in had]),
        windows=np.zeros(count, np.int64),
    )
    return catalog, states, np.where(is_new, NEVER, 0)


def channels_of(catalog: Catalog, states: States, first_times: np.ndarray, settings: dict[str, Any]) -> Channels:
    """All channels; the towers are as they begin."""
    ranking, model = settings["ranking"], settings["model"]
    items, users = len(catalog), len(states)
    towers = TwoTower(
        catalog, np.ones(items, int), users, 1, _LENGTH, model["dimensions"], model["temperature"], 0.0, 1024, 1
    )
    pairs = Pairs(
        np.repeat(states.users, np.diff(states.seen.splits)),
        states.seen.values.astype(np.int64),
        np.zeros(len(states.seen.values), np.int64),
        np.zeros(len(states.seen.values), np.int64),
    )
    filters: Filters = learn_filters(interaction_matrix(pairs, users, items), ranking, 1, ranking["factor_rounds"])
    crowd = states.take(np.arange(min(users, ranking["crowd"])))
    enabled = tuple(name for name, is_on in ranking["channels"].items() if is_on)
    texts = Retriever(tf.Variable(catalog.text_embeddings, trainable=False), settings["retrieval"])
    others = Crowd(crowd.users, embed_states(towers, crowd, items), crowd.histories, crowd.history_times)
    nearest = ranking["nearest_users"]
    return Channels(towers, catalog, first_times, filters, others, nearest, enabled, texts, settings["retrieval"])


def answers(
    channels: Channels, weights: np.ndarray, among_of: Callable[[Any], Among], states: States, users: np.ndarray
) -> tuple[np.ndarray, float]:
    """([users, chosen] best items, milliseconds a user)."""

    @tf.function(autograph=False, reduce_retracing=True)
    def best(*inputs: tf.Tensor) -> tf.Tensor:
        query = channels.query(*inputs)
        among = among_of(query)
        scores = tf.linalg.matvec(channels(query, among), weights)
        out = among.left_out(tf.RaggedTensor.from_tensor(tf.cast(query.history, tf.int64)))
        return among.items(tf.math.top_k(tf.where(out, tf.float32.min, scores), _CHOSEN).indices)

    best(*inputs_of(states, users[:1]))
    found, seconds = [], []
    for user in users:
        inputs = inputs_of(states, np.array([user]))
        start = time.perf_counter()
        found.append(best(*inputs).numpy()[0])
        seconds.append(time.perf_counter() - start)
    return np.stack(found), 1000 * float(np.median(seconds))


@click.command()
@click.option("--items", "sizes", multiple=True, type=int, default=(20_000, 100_000, 1_000_000), show_default=True)
@click.option("--users", "asked", default=50, show_default=True)
@click.option("--proposed", multiple=True, type=int, default=(100, 500), show_default=True, help="By each channel.")
def main(sizes: tuple[int, ...], asked: int, proposed: tuple[int, ...]) -> None:
    """Prints the table."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    table = Table("items", "ranked", "items ranked", "found", "a user", "of everything")
    config = Config().model_dump()
    for items in sizes:
        random = np.random.default_rng(1)
        catalog, states, first_times = made_up(items, random)
        config["retrieval"]["exact_below"] = 0
        # Hours of learning would change no time here.
        config["ranking"] |= {"exact_items": 0, "factor_rounds": 1}
        channels = channels_of(catalog, states, first_times, config)
        users = random.choice(len(states), asked, replace=False)
        sample = channels(channels.query(*inputs_of(states, users[:8]))).numpy()
        weights = 1 / moments_of(sample.reshape(-1, sample.shape[2]))[1]
        whole, base = answers(channels, weights, lambda _, count=items: Everything(count), states, users)
        table.add_row(f"{items:,}", "everything", f"{items:,}", "", f"{base:.1f} ms", "1.00")
        for count in proposed:
            channels.propose(count)
            listed = [
                channels.among(channels.query(*inputs_of(states, users[i : i + 1]))).listed(tf.constant(1)).numpy()[0]
                for i in range(asked)
            ]
            sets = [row[row >= 0] for row in listed]
            share = np.mean([np.isin(best[:_K], some).mean() for best, some in zip(whole, sets, strict=True)])
            _, ms = answers(channels, weights, channels.among, states, users)
            ranked = f"{np.median([len(some) for some in sets]):,.0f}"
            table.add_row("", f"{count} of each channel", ranked, f"{share:.3f}", f"{ms:.1f} ms", f"{ms / base:.3f}")
        table.add_section()
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
