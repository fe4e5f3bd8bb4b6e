"""When a model is good enough: the Evaluator's bounds, the serving checks."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.section import Section, Share
from schema import names

Slice = list[Literal[names.SLICES]]  # type: ignore[valid-type]


class Threshold(Section):
    """Bounds of a metric. Of a metric that has an interval, a bound is missed only where the interval's far end misses
    it: what may be noise blocks nothing."""

    metric: str = Field(description="such as recall (at the largest k), coverage_at_10 or auc_purchase")
    slices: list[Slice] = Field([[]], description="in each value of which features it counts; []: over all users")
    at_least: float | None = Field(None, description="the value")
    at_most: float | None = Field(None, description="the value; what is too good to be true is not true")
    max_drop: Share | None = Field(None, description="share by which it may fall against the last pushed model")


THRESHOLDS = {
    "recall": Threshold(metric="recall", at_least=0.01, at_most=0.95, max_drop=0.05),
    "ndcg": Threshold(metric="ndcg", at_least=0.005, max_drop=0.05),
    "recall_by_slice": Threshold(metric="recall", slices=[["activity"], ["target_price"]], max_drop=0.2),
    "coverage": Threshold(metric="coverage", at_least=0.02),
    "index": Threshold(metric=names.INDEX_RECALL, at_least=0.95),
}


class Evaluation(Section):
    """When the Evaluator blesses a model."""

    ks: list[Annotated[int, Field(ge=1)]] = Field([5, 10, 20], min_length=1, description="lengths of the lists")
    slices: list[Annotated[Slice, Field(min_length=1)]] = Field(
        [["activity"], ["target_age"], ["target_price"], ["target_category"], ["weekday"]],
        description="features whose values part the held-out users; several cross",
    )
    thresholds: dict[str, Threshold] = Field(
        THRESHOLDS,
        description="name -> bounds; what is left out of one that is there by default keeps its default, null takes it "
        "away",
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(0.95, description="of each end of an interval")
    replicates: int = Field(200, ge=20, description="of the bootstrap that makes intervals")
    min_users: int = Field(30, ge=1, description="a slice of fewer users has no interval, and so blocks nothing")

    def metric_key(self, threshold: Threshold) -> str:
        """The name of a threshold's metric in the evaluation."""
        if threshold.metric in (*names.USER_METRICS, *names.EXPOSURE_METRICS):
            return names.AT_K.format(metric=threshold.metric, k=max(self.ks))
        return threshold.metric

    def has_interval(self, threshold: Threshold) -> bool:
        """Whether a threshold's metric is a mean over users."""
        return self.metric_key(threshold) in self.keys_of(names.USER_METRICS)

    def keys_of(self, metrics: tuple[str, ...]) -> list[str]:
        """Names of metrics of lists, at each k."""
        return [names.AT_K.format(metric=metric, k=k) for metric in metrics for k in self.ks]


class Serving(Section):
    """What ServingValidator asks of the exported model."""

    requests: int = Field(16, ge=1, description="held-out users asked for over gRPC and REST")
    max_latency_ms: float = Field(500.0, gt=0, description="bound for the median answer to one user")
    max_slowdown: float = Field(3.0, ge=1, description="times that it may take of the last pushed model's time")
    max_model_mb: int = Field(4_096, ge=1, description="bound for the exported files")
    max_memory_mb: int = Field(16_384, ge=1, description="bound for the server that answers with it")
    server: Literal["auto", "embedded", "tensorflow_model_server", "remote"] = Field(
        "auto",
        description="auto: tensorflow_model_server where it is on PATH, else homefeed's own; remote: one that runs",
    )
    grpc: str = Field("", description="remote: grpc://HOST:PORT")
    rest: str = Field("", description="remote: http://HOST:PORT")
    folder: str = Field("", description="remote: the folder of versions that it looks into, for candidates only")
