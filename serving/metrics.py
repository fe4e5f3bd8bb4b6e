"""Counters and histograms under TensorFlow Serving's names, and the page that Prometheus reads.

The names and the buckets are util.cc's; the page is prometheus_exporter.cc's: `/` of a name becomes `:`, counters have
no `_total`.
"""

import math
import threading
from bisect import bisect_left
from collections.abc import Sequence

PAGE = "/monitoring/prometheus/metrics"


def exponential(scale: float, growth: float, count: int) -> list[float]:
    """Upper limits of buckets: scale * growth^i."""
    return [scale * growth**i for i in range(count)]


_MICROSECONDS = exponential(10, 1.8, 33)


class Counter:
    """A number that grows, for each combination of labels."""

    kind = "counter"

    def __init__(self, name: str, labels: Sequence[str]):
        self.name, self._labels = name, tuple(labels)
        self._lock, self._values = threading.Lock(), dict[tuple[str, ...], float]()

    def add(self, *labels: str, count: float = 1) -> None:
        """Adds to the number of these labels' values."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + count

    def value(self, *labels: str) -> float:
        """The number now."""
        with self._lock:
            return self._values.get(labels, 0)

    def lines(self) -> list[str]:
        """Lines of the page."""
        with self._lock:
            return [f"{self.name}{_braces(self._labels, key)} {value:g}" for key, value in sorted(self._values.items())]


class Histogram:
    """How values are spread over buckets, for each combination of labels."""

    kind = "histogram"

    def __init__(self, name: str, labels: Sequence[str], limits: Sequence[float]):
        self.name, self._labels, self._limits = name, tuple(labels), list(limits)
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], tuple[list[int], float]] = {}

    def add(self, *labels: str, value: float) -> None:
        """Notes one value."""
        with self._lock:
            buckets, total = self._values.get(labels) or ([0] * (len(self._limits) + 1), 0.0)
            buckets[bisect_left(self._limits, value)] += 1
            self._values[labels] = buckets, total + value

    def lines(self) -> list[str]:
        """Lines of the page."""
        found = []
        with self._lock:
            for key, (buckets, total) in sorted(self._values.items()):
                below = 0
                for limit, count in zip([*self._limits, math.inf], buckets, strict=True):
                    below += count
                    told = "+Inf" if math.isinf(limit) else f"{limit:g}"
                    found.append(f"{self.name}_bucket{_braces((*self._labels, 'le'), (*key, told))} {below}")
                found.append(f"{self.name}_sum{_braces(self._labels, key)} {total:g}")
                found.append(f"{self.name}_count{_braces(self._labels, key)} {below}")
        return found


def _braces(labels: Sequence[str], values: Sequence[str]) -> str:
    escaped = (value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in values)
    return "{" + ",".join(f'{label}="{value}"' for label, value in zip(labels, escaped, strict=True)) + "}"


class Metrics:
    """All metrics of a server.

    Attributes:
      requests: requests by model and status code.
      request_latency: microseconds of successful requests, by model, API and entrypoint (GRPC or REST).
      runtime_latency: microseconds that TensorFlow took, by model, API and runtime.
      examples, example_total: `tf.Example`s of a request, and of all.
      warmup_latency: microseconds of a version's warm-up, by its path and status.
      queuing_latency: microseconds that a request waited for its batch, by the thread pool's name.
    """

    def __init__(self) -> None:
        prefix = ":tensorflow:serving:"
        self.requests = Counter(f"{prefix}request_count", ("model_name", "status"))
        self.request_latency = Histogram(f"{prefix}request_latency", ("model_name", "API", "entrypoint"), _MICROSECONDS)
        self.runtime_latency = Histogram(f"{prefix}runtime_latency", ("model_name", "API", "runtime"), _MICROSECONDS)
        self.examples = Histogram(f"{prefix}request_example_counts", ("model",), exponential(1, 2, 15))
        self.example_total = Counter(f"{prefix}request_example_count_total", ("model",))
        self.warmup_latency = Histogram(f"{prefix}model_warmup_latency", ("model_path", "status"), _MICROSECONDS)
        self.queuing_latency = Histogram(
            f"{prefix}batching_session:queuing_latency", ("thread_pool_name",), _MICROSECONDS
        )

    def page(self) -> str:
        """The metrics in Prometheus' text form."""
        parts = []
        for metric in vars(self).values():
            parts += [f"# TYPE {metric.name} {metric.kind}", *metric.lines()]
        return "\n".join(parts) + "\n"
