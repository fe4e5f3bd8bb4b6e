"""What a step of TFX that trains gets, read: Transform's output and the earlier model's weights."""

import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from trainer import weights
from trainer.data import read_catalog, read_pairs, read_states, training_batches
from trainer.fitting import TrainingData
from trainer.preprocessing import CATEGORY_VOCABULARY, EVENT_VOCABULARY, USER_VOCABULARY
from trainer.weights import Vocabulary


def read_training_data(fn_args: FnArgs) -> TrainingData:
    """Reads the examples. `fn_args.train_files` are the patterns of `names.TRAINER_SPLITS`, in that order;
    `fn_args.base_model` is the export that `model.start` is of."""
    hyper, length = fn_args.custom_config["model"], fn_args.custom_config["history_length"]
    train, late, windows, catalog, users, timeline = fn_args.train_files
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    training, items = [train, late], read_catalog(catalog, timeline, transform)
    known_users, events, categories = (
        transform.vocabulary_by_name(name) for name in (USER_VOCABULARY, EVENT_VOCABULARY, CATEGORY_VOCABULARY)
    )
    return TrainingData(
        catalog=items,
        pairs=read_pairs(training, transform),
        windows=read_states(windows, transform, length),
        users=read_states(users, transform, length),
        batches=lambda window: training_batches(
            training, transform, length, hyper["batch_size"], window, hyper["seed"]
        ),
        vocabulary=Vocabulary(known_users, events, categories, items.item_ids.tolist()),
        earlier=weights.load(weights_folder(fn_args.base_model)) if fn_args.base_model else {},
    )


def weights_folder(export_folder: str) -> str:
    """Where an export keeps what the next training may start from; model servers do not look there."""
    return f"{export_folder}/assets.extra/weights"
