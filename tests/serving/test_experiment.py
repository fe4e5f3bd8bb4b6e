import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema import names
from schema.errors import InputError
from serving.experiment import Experiment, ExperimentLog, arm_of

HALVES = {"control": 0.5, "treatment": 0.5}


def test_arms_get_their_shares_and_experiments_part_users_independently():
    users = [f"u{i}" for i in range(20_000)]
    arms = np.array([arm_of(user, "e", {"a": 0.2, "b": 0.3, "c": 0.5}) for user in users])
    for arm, share in {"a": 0.2, "b": 0.3, "c": 0.5}.items():
        assert (arms == arm).mean() == pytest.approx(share, abs=0.015)
    first, second = (np.array([arm_of(u, e, HALVES) == "control" for u in users]) for e in ("one", "two"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


@given(st.text(), st.text(), st.floats(0, 1))
def test_an_arm_is_the_user_s_own_and_stays_when_the_share_grows(user, experiment, share):
    shares = {"new": share, "old": 1 - share}
    arm = arm_of(user, experiment, shares)
    assert arm == arm_of(user, experiment, shares)
    more = min(1.0, share + 0.1)
    if arm == "new":
        assert arm_of(user, experiment, {"new": more, "old": 1 - more}) == "new"


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}])
def test_shares_that_do_not_sum_to_one_are_refused(shares):
    with pytest.raises(InputError, match="sum to 1"):
        arm_of("u", "e", shares)


class Model:
    def __init__(self, item):
        self.item = item

    def predict(self, signature, inputs):
        assert signature == names.RECOMMEND
        return {
            names.ITEM_IDS: np.array([[self.item, b""]], object),
            names.SCORES: np.array([[1.5, 0.0]], np.float32),
            names.PROPENSITIES: np.array([[0.25, 0.0]], np.float32),
        }


def test_what_is_shown_and_what_follows_is_logged_without_user_ids(tmp_path, monkeypatch):
    monkeypatch.setenv("HOMEFEED_USER_ID_KEY", "0123456789abcdef")
    arms = {"control": Model(b"old item"), "treatment": Model(b"new item")}
    log = ExperimentLog(str(tmp_path))
    experiment = Experiment("e", arms, HALVES, log)
    request, answer = experiment.recommend("anna@example.com", exploration=[0.5])
    experiment.event(request, "new item", "click")
    log.close()
    (file,) = tmp_path.iterdir()
    shown, event = map(json.loads, file.read_text().splitlines())
    arm = arm_of("anna@example.com", "e", HALVES)
    assert answer[names.ITEM_IDS][0][0] == arms[arm].item
    assert (shown["arm"], shown["items"], shown["propensities"]) == (arm, [arms[arm].item.decode()], [0.25])
    assert shown["exploration"] == 0.5 and shown["request"] == event["request"] == request
    assert (event["kind"], event["item"], event["event"], event["value"]) == ("event", "new item", "click", 1.0)
    assert "anna" not in file.read_text() and len(shown["user"]) == 32


def test_an_experiment_without_a_key_or_with_other_arms_is_refused(tmp_path, monkeypatch):
    log = ExperimentLog(str(tmp_path))
    with pytest.raises(InputError, match="HOMEFEED_USER_ID_KEY"):
        Experiment("e", {"control": Model(b"a"), "treatment": Model(b"b")}, HALVES, log)
    monkeypatch.setenv("HOMEFEED_USER_ID_KEY", "0123456789abcdef")
    with pytest.raises(InputError, match="of the same"):
        Experiment("e", {"control": Model(b"a")}, HALVES, log)
