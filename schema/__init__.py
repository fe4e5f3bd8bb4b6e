"""What every part shares: names, curated schemas, the model's contract, errors. Imports nothing of ours."""

import os

# TFRS, TFT and Model Garden are Keras 2 code: the switch has to be set before TensorFlow's first import, in every
# process. All our packages import `schema`, so it is set here and nowhere else.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# The steps of a local run share a process, and so a GPU where there is one: take of its memory what is needed.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
