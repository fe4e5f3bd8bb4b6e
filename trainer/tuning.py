"""TFX Tuner's `tuner_fn`: KerasTuner over the handful of the towers' parameters that matter, judged by the first
ranking window, which no training of theirs has seen."""

import logging
from typing import Any

import keras_tuner
from keras_tuner.engine import base_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from trainer.fitting import try_towers
from trainer.reading import TrainingData, read_training_data

progress = logging.getLogger("homefeed.progress")
_OBJECTIVE = "validation_ndcg"
# Key of the configuration's `model` section -> values that are tried beside its own.
_SPACE: dict[str, list[Any]] = {
    "learning_rate": [0.001, 0.002, 0.004],
    "temperature": [0.05, 0.07, 0.1, 0.15],
    "dropout": [0.1, 0.2, 0.3, 0.5],
    "dimensions": [32, 64, 128],
}


class DefaultsFirst(keras_tuner.oracles.RandomSearchOracle):
    """Random search that begins with the configuration's own values, so that its best is never worse than they are."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """See KerasTuner's Oracle."""
        if not self.trials:
            return {"status": TrialStatus.RUNNING, "values": {p.name: p.default for p in self.hyperparameters.space}}
        return super().populate_space(trial_id)


class TowerTuner(base_tuner.BaseTuner):
    """Trains towers for each trial.

    Args:
      data: what they learn from.
      settings: as `fitting.fit` takes them.
      oracle: says what is tried.
      directory: for KerasTuner's files and the trials' checkpoints; a killed search goes on there.
    """

    def __init__(self, data: TrainingData, settings: dict[str, Any], oracle: keras_tuner.Oracle, directory: str):
        super().__init__(oracle, directory=directory, project_name="tuner")
        self._data, self._settings = data, settings

    def run_trial(self, trial: Trial, **_: Any) -> dict[str, float]:
        """Trains with a trial's values; a mean NDCG@20."""
        values = trial.hyperparameters.values
        settings = {**self._settings, "model": {**self._settings["model"], **values}}
        figure = try_towers(self._data, settings, f"{self.project_dir}/towers_{trial.trial_id}")
        told = ", ".join(f"{name} {value:g}" for name, value in values.items())
        progress.info("trial %d of %d: %s: %.4f", len(self.oracle.trials), self.oracle.max_trials, told, figure)
        return {_OBJECTIVE: figure}

    def load_model(self, trial: Trial) -> None:
        """No model is kept: Trainer trains with the best values."""

    def search_space_summary(self, extended: bool = False) -> None:
        """Nothing: what is tried is told trial by trial."""

    def results_summary(self, num_trials: int = 10) -> None:
        """Nothing, likewise."""


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """See TFX's Tuner; `fn_args` as for `run_fn`, with the configuration's `tuner` section besides."""
    settings: dict[str, Any] = fn_args.custom_config
    space = keras_tuner.HyperParameters()
    for name, values in _SPACE.items():
        own = settings["model"][name]
        space.Choice(name, sorted({*values, own}), default=own)
    oracle = DefaultsFirst(
        objective=keras_tuner.Objective(_OBJECTIVE, "max"),
        max_trials=settings["tuner"]["trials"],
        seed=settings["model"]["seed"],
        hyperparameters=space,
    )
    tuner = TowerTuner(read_training_data(fn_args), settings, oracle, fn_args.working_dir)
    return TunerFnResult(tuner=tuner, fit_kwargs={"verbose": 0})
