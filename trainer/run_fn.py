"""TFX Trainer's `run_fn`: reads Transform's output, trains the feed, exports the servable."""

import hashlib
import json
import tempfile
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from schema import names
from trainer import weights
from trainer.export import export
from trainer.fitting import fit
from trainer.reading import read_training_data
from trainer.retrieval import CURVE_FILE, RECALLED
from trainer.servable import Servable
from trainer.text_encoder import open_encoder


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports. `fn_args` as `read_training_data` takes them; `fn_args.custom_config` holds the
    configuration's `model`, `ranking`, `retrieval` and `encoder` sections, the encoder's with its `folder`,
    `history_length` and `checkpoints`, a folder; `fn_args.hyperparameters` is KerasTuner's, whose values replace those
    of `model`."""
    settings: dict[str, Any] = fn_args.custom_config
    tuned = (fn_args.hyperparameters or {}).get("values", {})
    settings = {**settings, "model": {**settings["model"], **tuned}}
    data, folder = read_training_data(fn_args), _checkpoints(settings, fn_args)
    tf.io.gfile.makedirs(folder)
    fitted = fit(data, settings, folder)
    for feed in {fitted.then, fitted.now}:
        feed.channels.model.forget_catalog()
    encoder = open_encoder(settings["encoder"]["folder"], settings["encoder"]["max_tokens"])
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    with tempfile.TemporaryDirectory() as assets:
        servable = Servable(fitted.then, fitted.now, encoder, transform, data.catalog, data.users, assets)
        defaults = {names.NEW_ITEMS_EVERY: [settings["ranking"][names.NEW_ITEMS_EVERY]]}
        users, items = data.users.user_ids.tolist(), data.catalog.item_ids.tolist()
        export(servable, fn_args.serving_model_dir, defaults, users, items)
    weights.save(fitted.weights, weights.weights_folder(fn_args.serving_model_dir))
    _copy_curves(folder, fn_args.model_run_dir)
    with tf.io.gfile.GFile(f"{fn_args.model_run_dir}/{CURVE_FILE}", "w") as file:
        json.dump(fitted.now.channels.alike.curve(RECALLED), file)
    tf.io.gfile.rmtree(folder)


def _checkpoints(settings: dict[str, Any], fn_args: FnArgs) -> str:
    """The folder of this training's checkpoints: that of a killed run on the same examples, code and settings."""
    paths = [fn_args.transform_graph_path, fn_args.train_files, fn_args.base_model]
    inputs = json.dumps([settings, paths], sort_keys=True, default=str)
    return f"{settings['checkpoints']}/{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"


def _copy_curves(folder: str, target: str) -> None:
    """Copies what TensorBoard and the report read from the folder of checkpoints: all but these."""
    for place, folders, files in tf.io.gfile.walk(folder):
        folders[:] = [name for name in folders if name.rstrip("/") not in ("latest", "best")]
        there = place.replace(folder, target, 1)
        tf.io.gfile.makedirs(there)
        for name in files:
            tf.io.gfile.copy(f"{place}/{name}", f"{there}/{name}", overwrite=True)
