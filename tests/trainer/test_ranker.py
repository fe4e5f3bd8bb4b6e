import numpy as np
import pytest
import tensorflow as tf

from trainer.ranker import Lists, listwise_loss, train_ranker

HYPER = {"hidden": [16], "batch_size": 16, "learning_rate": 0.01, "event_weight": 0.1}


def lists_of(states=200, candidates=20, seed=0):
    """The first feature says what is relevant where the second is above 0, and misleads elsewhere."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(states, candidates, 3)).astype(np.float32)
    taste = features[:, :, 0] * np.sign(features[:, :, 1])
    relevant = taste >= np.sort(taste, axis=1)[:, -2:-1]
    events = np.stack([relevant, relevant & (random.random(relevant.shape) < 0.5)], axis=2)
    return Lists(features, np.ones_like(relevant), relevant, events, np.ones(states, int))


def test_the_listwise_loss_by_hand():
    scores = tf.constant([[2.0, 1.0, 0.0], [0.0, 0.0, 5.0]])
    allowed = tf.constant([[True, True, True], [True, True, False]])
    relevant = tf.constant([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # what is not allowed is no relevant item
    total = np.exp([2, 1, 0]).sum()
    expected = -(np.log(np.exp(2) / total) + np.log(np.exp(1) / total)) / np.sqrt(2)
    assert float(listwise_loss(scores, allowed, relevant)) == pytest.approx(expected, rel=1e-5)


def test_it_learns_what_no_weighted_sum_can_and_its_probabilities_are_the_shares_seen():
    ranker = train_ranker(lists_of(), HYPER, 30, seed=1)
    unseen = lists_of(seed=1)
    scores, logits = ranker(unseen.features)
    best = np.argsort(-scores.numpy(), axis=1)[:, :2]
    assert np.take_along_axis(unseen.relevant, best, axis=1).mean() > 0.7  # by chance it is 0.1
    probabilities = tf.sigmoid(logits).numpy()
    assert probabilities.mean(axis=(0, 1)) == pytest.approx(unseen.events.mean(axis=(0, 1)), rel=0.25)
    assert probabilities[..., 0][unseen.relevant].mean() > 5 * probabilities[..., 0][~unseen.relevant].mean()


def test_equal_seeds_give_equal_rankers():
    lists = lists_of(30)
    one, two, other = (train_ranker(lists, HYPER, 2, seed)(lists.features)[0] for seed in (1, 1, 2))
    assert (one.numpy() == two.numpy()).all() and not np.allclose(one, other)
