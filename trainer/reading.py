"""What a step of TFX that trains gets, read: Transform's output and the earlier model's weights."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from trainer import weights
from trainer.data import Catalog, Pairs, States, read_catalog, read_pairs, read_states, training_batches
from trainer.preprocessing import CATEGORY_VOCABULARY, EVENT_VOCABULARY, USER_VOCABULARY
from trainer.weights import Arrays, Vocabulary


@dataclass(frozen=True)
class TrainingData:
    """What there is to learn from.

    Attributes:
      catalog: the items.
      pairs: what each user has had, and since when.
      windows: states of all windows; the last is the time that is held out.
      users: states as of now.
      batches: (window, moment in seconds since 1970 UTC) -> epoch -> the training examples from before that window's
        start, and not from before the moment.
      vocabulary: the names of users, events, categories and items.
      earlier: what an earlier training has left, by `weights.load`; empty where this one starts from nothing.
    """

    catalog: Catalog
    pairs: Pairs
    windows: States
    users: States
    batches: Callable[[int, int], Callable[[int], tf.data.Dataset]]
    vocabulary: Vocabulary
    earlier: dict[str, Arrays] = field(default_factory=dict)

    @property
    def cut(self) -> int:
        """The number of the window that is held out for the Evaluator."""
        return int(self.windows.windows.max(initial=0))

    def window(self, number: int) -> States:
        """The states of a window."""
        return self.windows.take(np.flatnonzero(self.windows.windows == number))


def read_training_data(fn_args: FnArgs) -> TrainingData:
    """Reads the examples. `fn_args.train_files` are the patterns of `names.TRAINER_SPLITS`, in that order;
    `fn_args.base_model` is the export that `model.start` is of."""
    hyper, length = fn_args.custom_config["model"], fn_args.custom_config["history_length"]
    train, windows, catalog, users, timeline = fn_args.train_files
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    items = read_catalog(catalog, timeline, transform)
    known_users, events, categories = (
        transform.vocabulary_by_name(name) for name in (USER_VOCABULARY, EVENT_VOCABULARY, CATEGORY_VOCABULARY)
    )
    return TrainingData(
        catalog=items,
        pairs=read_pairs(users, transform),
        windows=read_states(windows, transform, length),
        users=read_states(users, transform, length),
        batches=lambda window, since: training_batches(
            train, transform, length, hyper["batch_size"], window, since, hyper["seed"]
        ),
        vocabulary=Vocabulary(known_users, events, categories, items.item_ids.tolist()),
        earlier=weights.load(weights.weights_folder(fn_args.base_model)) if fn_args.base_model else {},
    )
