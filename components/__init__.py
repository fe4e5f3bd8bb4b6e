"""TFX components of our own and the Beam transforms in them."""

import schema  # noqa: F401  (Keras 2 has to be chosen before TensorFlow is imported)
