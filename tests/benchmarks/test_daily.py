import math

import pytest

from benchmarks.daily import Ledger, Run


def test_what_is_done_is_not_made_again(tmp_path):
    run = Run("pushed", 3.0, {"Trainer": ("ran", 2.0)})
    assert Ledger(tmp_path / "runs.json").run("first", lambda: run) == run
    again = Ledger(tmp_path / "runs.json").run("first", lambda: pytest.fail("made again"))
    assert again.state == "pushed" and again.seconds == 3.0 and again.steps["Trainer"][1] == 2.0


def test_a_run_that_was_ended_is_made_again_and_its_time_says_nothing(tmp_path):
    def ended():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path / "runs.json").run("day", ended)
    ledger = Ledger(tmp_path / "runs.json")
    assert math.isnan(ledger.run("day", lambda: Run("pushed", 1.0, {})).seconds)
    assert ledger.run("next", lambda: Run("pushed", 1.0, {})).seconds == 1.0
    assert math.isnan(Ledger(tmp_path / "runs.json").run("day", ended).seconds)
