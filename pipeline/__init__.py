"""Configuration, the DAG, its runners and the command line."""

import schema  # noqa: F401  (Keras 2 has to be chosen before TensorFlow is imported)
