"""TFX Trainer's `run_fn`: reads Transform's output, trains the feed, exports the servable."""

import hashlib
import json
import shutil
import tempfile
from typing import Any

import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from trainer import weights
from trainer.data import read_catalog, read_pairs, read_states, training_batches
from trainer.export import export
from trainer.fitting import TrainingData, fit
from trainer.preprocessing import CATEGORY_VOCABULARY, EVENT_VOCABULARY, USER_VOCABULARY
from trainer.servable import Servable
from trainer.text_encoder import open_encoder
from trainer.weights import Vocabulary


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports. `fn_args.train_files` are the patterns of `names.TRAINER_SPLITS`, in that order;
    `fn_args.custom_config` holds the configuration's `model`, `ranking` and `encoder` sections, the encoder's with its
    `folder`, `history_length` and `checkpoints`, a folder; `fn_args.base_model` is the export that `model.start` is
    of."""
    settings: dict[str, Any] = fn_args.custom_config
    hyper, length = settings["model"], settings["history_length"]
    train, late, windows, catalog, users, timeline = fn_args.train_files
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    training = [train, late]
    items = read_catalog(catalog, timeline, transform)
    users_known, events, categories = (
        transform.vocabulary_by_name(name) for name in (USER_VOCABULARY, EVENT_VOCABULARY, CATEGORY_VOCABULARY)
    )
    data = TrainingData(
        catalog=items,
        pairs=read_pairs(training, transform),
        windows=read_states(windows, transform, length),
        users=read_states(users, transform, length),
        batches=lambda window: training_batches(
            training, transform, length, hyper["batch_size"], window, hyper["seed"]
        ),
        vocabulary=Vocabulary(users_known, events, categories, items.item_ids.tolist()),
        earlier=weights.load(weights_folder(fn_args.base_model)) if fn_args.base_model else {},
    )
    folder = _checkpoints(settings, fn_args)
    fitted = fit(data, settings, folder)
    encoder = open_encoder(settings["encoder"]["folder"], settings["encoder"]["max_tokens"])
    with tempfile.TemporaryDirectory() as assets:
        servable = Servable(fitted.then, fitted.now, encoder, transform, data.catalog, data.users, assets)
        export(servable, fn_args.serving_model_dir)
    weights.save(fitted.weights, weights_folder(fn_args.serving_model_dir))
    shutil.copytree(folder, fn_args.model_run_dir, ignore=shutil.ignore_patterns("latest", "best"), dirs_exist_ok=True)
    shutil.rmtree(folder)


def weights_folder(export_folder: str) -> str:
    """Where an export keeps what the next training may start from; model servers do not look there."""
    return f"{export_folder}/assets.extra/weights"


def _checkpoints(settings: dict[str, Any], fn_args: FnArgs) -> str:
    """The folder of this training's checkpoints: that of a killed run on the same examples, code and settings."""
    paths = [fn_args.transform_graph_path, fn_args.train_files, fn_args.base_model]
    inputs = json.dumps([settings, paths], sort_keys=True, default=str)
    return f"{settings['checkpoints']}/{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
