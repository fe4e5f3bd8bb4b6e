import math

import numpy as np
import pytest

from trainer.metrics.off_policy import OffPolicy, snips, sums_of


def test_values_worked_out_by_hand():
    rewards, new, logged = np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.1]), np.array([0.25, 0.5, 0.2])
    w = np.array([2.0, 1.0, 0.5])
    value, error, samples = snips(sums_of(rewards, new, logged))
    assert value == pytest.approx(2.5 / 3.5)
    assert error == pytest.approx(math.sqrt((w**2 * (rewards - value) ** 2).sum()) / 3.5)
    assert samples == pytest.approx(3.5**2 / 5.25)


def test_parts_of_a_log_add_up_and_weights_are_clipped():
    random = np.random.default_rng(1)
    columns = random.random((3, 100)) * 0.9 + 0.05
    whole, combiner = sums_of(*columns, clip=3), OffPolicy("", clip=3)
    parts = [combiner.add_input(combiner.create_accumulator(), tuple(columns[:, i::4])) for i in range(4)]
    state, _ = combiner.merge_accumulators(parts)
    np.testing.assert_allclose(state, whole)
    assert sums_of(np.ones(1), np.ones(1), np.array([0.01]), clip=3)[0] == 3


def test_the_estimate_finds_what_another_policy_earns():
    """Logged by a uniform policy over two items; the judged one shows the better in 9 of 10 cases."""
    random, n = np.random.default_rng(1), 20_000
    shown = random.integers(0, 2, n)
    rewards = (random.random(n) < np.array([0.1, 0.3])[shown]).astype(float)
    value, error, _ = snips(sums_of(rewards, np.array([0.1, 0.9])[shown], np.full(n, 0.5)))
    assert abs(value - 0.28) < 3 * error < 0.03


def test_what_was_not_logged_as_it_must_is_refused():
    with pytest.raises(ValueError, match="logged propensity"):
        sums_of(np.ones(1), np.ones(1), np.zeros(1))
    assert math.isnan(snips(np.zeros(6))[0])
