"""The embedded model server and its client: TensorFlow Serving's protocols over a SavedModel."""

import schema  # noqa: F401  (Keras 2 has to be chosen before TensorFlow is imported)
