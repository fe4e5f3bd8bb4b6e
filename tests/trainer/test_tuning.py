"""The search over the towers' parameters, on the tiny log of `test_fitting`."""

import dataclasses
from types import SimpleNamespace

import pytest

import trainer.tuning
from schema.errors import InputError
from tests.trainer.test_fitting import CUT, SETTINGS, data_of
from trainer.fitting import try_towers
from trainer.tuning import tuner_fn


def searched(folder, monkeypatch, trials):
    monkeypatch.setattr(trainer.tuning, "read_training_data", lambda fn_args: data_of())
    settings = {**SETTINGS, "tuner": {"trials": trials}, "model": {**SETTINGS["model"], "epochs": 1}}
    result = tuner_fn(SimpleNamespace(custom_config=settings, working_dir=str(folder)))
    result.tuner.search(**result.fit_kwargs)
    return settings, result.tuner


def test_the_configuration_s_own_values_are_tried_first_and_the_best_are_told(tmp_path, monkeypatch):
    settings, tuner = searched(tmp_path, monkeypatch, trials=3)
    trials = sorted(tuner.oracle.trials.values(), key=lambda trial: int(trial.trial_id))
    own = {name: settings["model"][name] for name in trials[0].hyperparameters.values}
    assert trials[0].hyperparameters.values == own
    assert len({tuple(trial.hyperparameters.values.items()) for trial in trials}) == 3
    assert trials[0].score == pytest.approx(try_towers(data_of(), settings, str(tmp_path / "again")))
    best = tuner.get_best_hyperparameters()[0]
    assert best.values == max(trials, key=lambda trial: trial.score).hyperparameters.values
    assert best.get_config()["values"].keys() <= settings["model"].keys()  # what Trainer puts in their place


def test_a_log_without_windows_cannot_be_tuned(tmp_path):
    data = data_of()
    with pytest.raises(InputError, match=r"tuner.trials: the log is too short"):
        try_towers(dataclasses.replace(data, windows=data.window(CUT)), SETTINGS, str(tmp_path))
