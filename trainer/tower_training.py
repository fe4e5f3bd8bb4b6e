"""The towers' training loop: epochs in an order that the seed fixes, early stopping, checkpoints."""

import logging
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trainer.two_tower import TwoTower

progress = logging.getLogger("homefeed.progress")
_PATIENCE = 2  # epochs without a better validation


def train_towers(
    model: TwoTower,
    batches: Callable[[int], tf.data.Dataset],
    hyper: dict[str, Any],
    epochs: int,
    folder: str,
    validate: Callable[[], float] | None = None,
) -> int:
    """Trains with Adam and a cosine schedule.

    After each epoch weights, optimizer and the place in the schedule are saved, so that a run that was killed goes on
    with the epoch that it was in, and ends with the same model: the order of the examples and all dropout are functions
    of the seed and the step.

    Args:
      model: fresh towers.
      batches: epoch -> its batches.
      hyper: the configuration's `model` section.
      epochs: how many there are, at most.
      folder: of checkpoints and of TensorBoard's curves.
      validate: a figure of the model's that should grow: training stops when it has not for a while, and the weights of
        its best epoch are kept.

    Returns:
      The number of epochs that the model's weights have seen.
    """
    steps = epochs * len(batches(0))
    schedule = tf.keras.optimizers.schedules.CosineDecay(hyper["learning_rate"], max(steps, 1), alpha=0.05)
    model.compile(optimizer=tf.keras.optimizers.Adam(schedule))
    done, best, best_epoch = (tf.Variable(value, trainable=False) for value in (0, -math.inf, 0))
    checkpoint = tf.train.Checkpoint(
        model=model, optimizer=model.optimizer, done=done, best=best, best_epoch=best_epoch
    )
    latest = tf.train.CheckpointManager(checkpoint, f"{folder}/latest", max_to_keep=1)
    kept = tf.train.CheckpointManager(tf.train.Checkpoint(model=model), f"{folder}/best", max_to_keep=1)
    if latest.latest_checkpoint:
        _build(model, batches(0))
        checkpoint.restore(latest.latest_checkpoint)
        progress.info("goes on after epoch %d", int(done))
    board = tf.keras.callbacks.TensorBoard(f"{folder}/board")
    for epoch in range(int(done), epochs):
        if validate is not None and epoch - int(best_epoch) > _PATIENCE:
            break
        loss = model.fit(batches(epoch), epochs=epoch + 1, initial_epoch=epoch, verbose=0, callbacks=[board]).history[
            "loss"
        ][0]
        figure = math.nan if validate is None else validate()
        progress.info("epoch %d of %d, loss %.4f%s", epoch + 1, epochs, loss, _told(figure))
        done.assign(epoch + 1)
        if validate is not None and figure > float(best):
            best.assign(figure)
            best_epoch.assign(epoch + 1)
            kept.save()
        latest.save()
    if validate is None or not kept.latest_checkpoint:
        return int(done)
    tf.train.Checkpoint(model=model).restore(kept.latest_checkpoint).expect_partial()
    return int(best_epoch)


def _build(model: TwoTower, dataset: tf.data.Dataset) -> None:
    """Makes every variable of the model and its optimizer, so that a checkpoint restores them at once."""
    for batch in dataset.take(1):
        model.compute_loss(batch)
    model.optimizer.build(model.trainable_variables)


def _told(figure: float) -> str:
    return "" if math.isnan(figure) else f", validation NDCG@20 {figure:.4f}"
