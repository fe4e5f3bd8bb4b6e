"""What a graph function is told of its inputs, so that TensorFlow traces it once."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf


def of_any_rows(arrays: Iterable[np.ndarray | tf.Tensor]) -> list[tf.TensorSpec]:
    """The shapes and dtypes of arrays, but for how many rows they have: a function of batches would be traced once
    more for the last, which is smaller, and tracing takes longer than a small catalogue's computations."""
    return [tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in arrays]
