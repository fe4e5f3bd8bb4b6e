"""TFMA metrics over what the `evaluate` signature returns, as Beam combiners; each file says what its numbers mean."""

import tensorflow_text  # noqa: F401  (TFMA loads the exported model, which holds text ops)

from trainer.metrics.exposure import ExposureMetrics
from trainer.metrics.index import IndexMetrics
from trainer.metrics.off_policy import OffPolicyMetrics
from trainer.metrics.probabilities import ProbabilityMetrics
from trainer.metrics.users import UserMetrics

__all__ = ["ExposureMetrics", "IndexMetrics", "OffPolicyMetrics", "ProbabilityMetrics", "UserMetrics"]
