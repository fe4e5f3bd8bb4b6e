"""What there is to train on."""

import tensorflow as tf

_BFLOAT16_SINCE = (8, 0)  # compute capability


def strategy() -> tf.distribute.Strategy:
    """All GPUs of this machine together, or the one there is, or the processors."""
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def precision(wanted: str) -> str:
    """The Keras policy of the text encoder: `auto` is bfloat16 with float32 weights on GPUs that compute in it."""
    if wanted != "auto":
        return wanted
    found = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    able = found and all(details.get("compute_capability", (0, 0)) >= _BFLOAT16_SINCE for details in found)
    return "mixed_bfloat16" if able else "float32"
