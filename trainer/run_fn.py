"""TFX Trainer's `run_fn`: reads Transform's output, trains the feed, exports the servable."""

import hashlib
import json
import shutil
import tempfile
from typing import Any

import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from trainer.data import read_catalog, read_pairs, read_states, training_batches
from trainer.export import export
from trainer.fitting import TrainingData, fit
from trainer.preprocessing import EVENT_VOCABULARY, USER_VOCABULARY
from trainer.servable import Servable
from trainer.text_encoder import TextEncoder


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports. `fn_args.train_files` are the patterns of `names.TRAINER_SPLITS`, in that order;
    `fn_args.custom_config` holds the configuration's `model`, `ranking` and `encoder` sections, `history_length` and
    `checkpoints`, a folder."""
    settings: dict[str, Any] = fn_args.custom_config
    hyper, length = settings["model"], settings["history_length"]
    train, late, windows, catalog, users, timeline = fn_args.train_files
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    training = [train, late]
    data = TrainingData(
        catalog=read_catalog(catalog, timeline, transform),
        pairs=read_pairs(training, transform),
        windows=read_states(windows, transform, length),
        users=read_states(users, transform, length),
        batches=lambda window: training_batches(
            training, transform, length, hyper["batch_size"], window, hyper["seed"]
        ),
        vocabulary=(
            transform.vocabulary_size_by_name(USER_VOCABULARY),
            transform.vocabulary_size_by_name(EVENT_VOCABULARY),
        ),
    )
    folder = _checkpoints(settings, fn_args)
    then, now = fit(data, settings, folder)
    encoder = TextEncoder(settings["encoder_folder"], settings["max_tokens"])
    with tempfile.TemporaryDirectory() as assets:
        servable = Servable(then, now, encoder, transform, data.catalog, data.users, assets)
        export(servable, fn_args.serving_model_dir)
    shutil.copytree(folder, fn_args.model_run_dir, ignore=shutil.ignore_patterns("latest", "best"), dirs_exist_ok=True)
    shutil.rmtree(folder)


def _checkpoints(settings: dict[str, Any], fn_args: FnArgs) -> str:
    """The folder of this training's checkpoints: that of a killed run on the same examples, code and settings."""
    inputs = json.dumps([settings, fn_args.transform_graph_path, fn_args.train_files], sort_keys=True, default=str)
    return f"{settings['checkpoints']}/{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
