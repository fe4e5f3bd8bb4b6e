import numpy as np
import pytest

from components.serving_validator import check, faults_of
from schema import names

REQUEST = {
    names.USER_ID: np.array([b"u"], object),
    names.HISTORY_ITEM_IDS: np.array([[b"old"]], object),
    names.EXCLUDE_ITEM_IDS: np.array([[b"had", b""]], object),
}


def answer(items, scores):
    return {names.ITEM_IDS: np.array([items], object), names.SCORES: np.array([scores], np.float32)}


GOOD = answer([b"a", b"b", b""], [2.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (answer([b"", b""], [0.0, 0.0]), "is empty"),
        (answer([b"a", b"a"], [2.0, 1.0]), "twice"),
        (answer([b"a", b"had"], [2.0, 1.0]), "left out"),
        (answer([b"a", b"old"], [2.0, 1.0]), "left out"),
        (answer([b"a", b"b"], [np.nan, 1.0]), "not finite"),
        (answer([b"a", b"b"], [1.0, 2.0]), "order"),
    ],
)
def test_faults_are_named(bad, words):
    assert any(words in fault for fault in faults_of(bad, REQUEST))
    assert faults_of(GOOD, REQUEST) == []


def test_a_server_that_answers_as_the_model_does_has_no_fault():
    ask = lambda *_: GOOD  # noqa: E731
    assert check({"gRPC": ask}, ask, [REQUEST, REQUEST], max_latency_ms=1e6) == []


def test_other_answers_and_slow_ones_are_faults():
    other = answer([b"a", b"c", b""], [2.0, 1.0, 0.0])
    (fault,) = check({"REST": lambda *_: other}, lambda *_: GOOD, [REQUEST], max_latency_ms=1e6)
    assert fault == "REST: answer 0 is not the model's own."
    (slow,) = check({"gRPC": lambda *_: GOOD}, lambda *_: GOOD, [REQUEST], max_latency_ms=0)
    assert "median" in slow
