"""Peers side by side with us, on the same data, in one run."""

import schema  # noqa: F401  (Keras 2 has to be chosen before TensorFlow is imported)
