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
    optimizer = tf.keras.optimizers.Adam(schedule)
    for batch in batches(0).take(1):  # makes every variable, so that a checkpoint restores them at once
        model.compute_loss(batch)
    optimizer.build(model.trainable_variables)
    done, best, best_epoch = (tf.Variable(value, trainable=False) for value in (0, -math.inf, 0))
    place = {"done": done, "best": best, "best_epoch": best_epoch}
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, **place)
    latest = tf.train.CheckpointManager(checkpoint, f"{folder}/latest", max_to_keep=1)
    kept = tf.train.CheckpointManager(tf.train.Checkpoint(model=model), f"{folder}/best", max_to_keep=1)
    if latest.restore_or_initialize():
        progress.info("goes on after epoch %d", int(done))
    step, board = _step(model, optimizer), tf.summary.create_file_writer(f"{folder}/board")
    for epoch in range(int(done), epochs):
        if validate is not None and epoch - int(best_epoch) > _PATIENCE:
            break
        losses = [step(batch) for batch in batches(epoch)]
        loss = float(tf.reduce_mean(losses)) if losses else math.nan
        figure = math.nan if validate is None else validate()
        progress.info("epoch %d of %d, loss %.4f%s", epoch + 1, epochs, loss, _told(figure))
        with board.as_default(step=epoch + 1):
            tf.summary.scalar("loss", loss)
            tf.summary.scalar("learning_rate", schedule(optimizer.iterations))
            if validate is not None:
                tf.summary.scalar("validation_ndcg_at_20", figure)
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


def _step(model: TwoTower, optimizer: tf.keras.optimizers.Optimizer) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
    """One batch's step; gives its loss."""

    # Autograph would spend ten times as long on rewriting code that has nothing to be rewritten.
    @tf.function(autograph=False, reduce_retracing=True)
    def step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return step


def _told(figure: float) -> str:
    return "" if math.isnan(figure) else f", validation NDCG@20 {figure:.4f}"
