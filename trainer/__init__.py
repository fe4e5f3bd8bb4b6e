"""The two-tower model: features, towers, signatures, metrics."""

import schema  # noqa: F401  (Keras 2 has to be chosen before TensorFlow is imported)
