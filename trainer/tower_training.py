"""The towers' training loop: epochs in an order that the seed fixes, early stopping, checkpoints."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trainer.two_tower import TwoTower

progress = logging.getLogger("homefeed.progress")
_PATIENCE = 2  # epochs without a better validation
_WARM_UP = 0.1  # share of the steps in which the encoder's rate grows


def train_towers(
    model: TwoTower,
    batches: Callable[[int], tf.data.Dataset],
    learning_rate: float,
    epochs: int,
    folder: str,
    validate: Callable[[], float] | None = None,
    encoder_rate: float = 0.0,
    planned: int | None = None,
) -> int:
    """Trains with Adam and a cosine schedule, on all devices of the strategy that the model was made in.

    After each epoch weights, optimizer and the place in the schedule are saved, so that a run that was killed goes on
    with the epoch that it was in, and ends with the same model: the order of the examples and all dropout are functions
    of the seed and the step.

    Args:
      model: towers.
      batches: epoch -> its batches.
      learning_rate: Adam's step size at its peak.
      epochs: how many there are, at most.
      folder: of checkpoints and of TensorBoard's curves.
      validate: a figure of the model's that should grow: training stops when it has not for a while, and the weights of
        its best epoch are kept.
      encoder_rate: Adam's step size at its peak for a text encoder that is trained along.
      planned: epochs that the schedule is made for; a training that ends before has not come to its small steps. None
        for as many as there are.

    Returns:
      The number of epochs that the model's weights have seen.
    """
    first, strategy = batches(0), model.distribute_strategy
    each = len(first)
    optimizers = _optimizers(model, learning_rate, encoder_rate, max((planned or epochs) * each, 1))
    done, best, best_epoch = (tf.Variable(value, trainable=False) for value in (0, -math.inf, 0))
    place = {"done": done, "best": best, "best_epoch": best_epoch}
    checkpoint = tf.train.Checkpoint(model=model, optimizers=[optimizer for optimizer, _ in optimizers], **place)
    latest = tf.train.CheckpointManager(checkpoint, f"{folder}/latest", max_to_keep=1)
    kept = tf.train.CheckpointManager(tf.train.Checkpoint(model=model), f"{folder}/best", max_to_keep=1)
    if latest.restore_or_initialize():
        progress.info("goes on after epoch %d", int(done))
    board = tf.summary.create_file_writer(f"{folder}/board")
    step = _step(model, optimizers, strategy.experimental_distribute_dataset(first).element_spec)
    for epoch in range(int(done), epochs):
        if validate is not None and epoch - int(best_epoch) > _PATIENCE:
            break
        losses, told = [], time.monotonic()
        for n, batch in enumerate(strategy.experimental_distribute_dataset(batches(epoch))):
            losses.append(step(batch))
            if time.monotonic() - told > 1:
                told = time.monotonic()
                progress.info("epoch %d of %d", epoch + 1, epochs, extra={"share": (n + 1, each)})
        loss = float(tf.reduce_mean(losses)) if losses else math.nan
        model.refresh()
        figure = math.nan if validate is None else validate()
        progress.info("epoch %d of %d, loss %.4f%s", epoch + 1, epochs, loss, _told(figure))
        with board.as_default(step=epoch + 1):
            tf.summary.scalar("loss", loss)
            tf.summary.scalar("learning_rate", optimizers[0][0].learning_rate)
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


Optimizers = list[tuple[tf.keras.optimizers.Optimizer, list[tf.Variable]]]


def _optimizers(model: TwoTower, rate: float, encoder_rate: float, steps: int) -> Optimizers:
    """Each with the variables that it moves: the towers', and the encoder's where there are any."""
    cosine = tf.keras.optimizers.schedules.CosineDecay
    with model.distribute_strategy.scope():
        found = [(tf.keras.optimizers.Adam(cosine(rate, steps, alpha=0.05)), model.tower_variables())]
        if model.encoder_variables():
            warm = max(int(_WARM_UP * steps), 1)
            schedule = cosine(0.0, max(steps - warm, 1), alpha=0.05, warmup_target=encoder_rate, warmup_steps=warm)
            found.append((tf.keras.optimizers.Adam(schedule), model.encoder_variables()))
        for optimizer, variables in found:
            optimizer.build(variables)
    return found


def _step(model: TwoTower, optimizers: Optimizers, spec: Any) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
    """One batch's step; gives its loss. `spec` is that of all batches, whose histories differ in length: by each
    batch's own the step would be traced twice."""
    strategy = model.distribute_strategy
    moved = [variables for _, variables in optimizers]

    def one(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
            share = loss / strategy.num_replicas_in_sync  # the devices' gradients are added up
        for (optimizer, variables), gradients in zip(optimizers, tape.gradient(share, moved), strict=True):
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    # Autograph would spend ten times as long on rewriting code that has nothing to be rewritten.
    @tf.function(autograph=False, input_signature=[spec])
    def step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return strategy.reduce("MEAN", strategy.run(one, args=(batch,)), axis=None)

    return step


def _told(figure: float) -> str:
    return "" if math.isnan(figure) else f", validation NDCG@20 {figure:.4f}"
