"""TFX Trainer's `run_fn`: reads Transform's output, trains the two towers, exports the servable."""

import logging
import tempfile
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from trainer.data import read_catalog, read_users, training_dataset
from trainer.export import export
from trainer.preprocessing import EVENT_VOCABULARY, USER_VOCABULARY
from trainer.servable import Servable
from trainer.text_encoder import TextEncoder
from trainer.two_tower import TwoTower

progress = logging.getLogger("homefeed.progress")


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports. `fn_args.train_files` are the patterns of `names.TRAINER_SPLITS`, in that order;
    `fn_args.custom_config` holds the configuration's `model` and `encoder` sections and `history_length`."""
    settings: dict[str, Any] = fn_args.custom_config
    hyper, history_length = settings["model"], settings["history_length"]
    train, catalog_pattern, users_pattern, timeline = fn_args.train_files
    tf.keras.utils.set_random_seed(hyper["seed"])
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    catalog = read_catalog(catalog_pattern, timeline, transform)
    users = read_users(users_pattern, transform, history_length)
    model = TwoTower(
        catalog,
        users=transform.vocabulary_size_by_name(USER_VOCABULARY),
        events=transform.vocabulary_size_by_name(EVENT_VOCABULARY),
        history_length=history_length,
        dimensions=hyper["dimensions"],
        temperature=hyper["temperature"],
        dropout=hyper["dropout"],
    )
    dataset = training_dataset(train, transform, history_length, hyper["batch_size"], hyper["seed"])
    steps = hyper["epochs"] * sum(1 for _ in dataset)
    schedule = tf.keras.optimizers.schedules.CosineDecay(hyper["learning_rate"], steps, alpha=0.05)
    model.compile(optimizer=tf.keras.optimizers.Adam(schedule))
    model.fit(
        dataset,
        epochs=hyper["epochs"],
        verbose=0,
        callbacks=[_Progress(hyper["epochs"]), tf.keras.callbacks.TensorBoard(fn_args.model_run_dir)],
    )
    encoder = TextEncoder(settings["encoder_folder"], settings["max_tokens"])
    with tempfile.TemporaryDirectory() as assets:
        export(Servable(model, encoder, transform, catalog, users, assets), fn_args.serving_model_dir)


class _Progress(tf.keras.callbacks.Callback):
    """A line for each epoch, for who waits."""

    def __init__(self, epochs: int):
        super().__init__()
        self._epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        progress.info("epoch %d of %d, loss %.4f", epoch + 1, self._epochs, (logs or {})["loss"])
