"""Training-serving skew: what a server was asked, beside what the model was trained on.

Both are described by the same features, whose distributions TFDV compares: the L-infinity distance of words, the
Jensen-Shannon divergence of numbers.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import tensorflow as tf
import tensorflow_data_validation as tfdv
from rich.console import Console
from rich.table import Table
from tensorflow_data_validation.statistics import stats_impl

from components.examples import Row, decode_example, read_split
from pipeline.lineage import Store
from schema import names
from schema.errors import InputError

_ROWS = 100_000  # of each side
_DAY = 86_400
WORDS = ("history_item", "history_event", "trait", "weekday")
NUMBERS = ("history_length", "hour", "days_since")


@dataclass(frozen=True)
class Distance:
    """Of one feature.

    Attributes:
      feature: its name.
      measure: of TFDV.
      value: how far requests are from training.
      bound: above which it is told.
    """

    feature: str
    measure: str
    value: float
    bound: float

    @property
    def is_far(self) -> bool:
        return self.value > self.bound


def drift(store: Store, requests: str, bound: float) -> tuple[list[Distance], dict[str, float]]:
    """Compares.

    Args:
      store: of the workspace; its newest run's training examples count.
      requests: the folder that a server logs to.
      bound: for every feature.

    Returns:
      Distances, the largest first; and facts: how many rows there are on each side, and the share of requests' history
      items that training does not know.

    Raises:
      InputError: there are no requests, or no training examples.
    """
    files = sorted(str(path) for path in Path(requests).glob("requests-*.gz"))
    if not files:
        raise InputError(f"{requests}: holds no requests-*.gz; serve with --request_log_folder, and ask something.")
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()
    served = [decode_example(record) for record in itertools.islice(records, _ROWS)]
    trained = list(itertools.islice(_training(store), _ROWS))
    known = {
        item for row in trained for item in (*row.get(names.HISTORY_ITEM_IDS, ()), *row.get(names.TARGET_ITEM_IDS, ()))
    }
    asked = [item for row in served for item in row.get(names.HISTORY_ITEM_IDS, ())]
    facts = {
        "training examples": float(len(trained)),
        "requests": float(len(served)),
        "requests with a history": sum(bool(row.get(names.HISTORY_ITEM_IDS)) for row in served) / len(served),
        "history items that training does not know": sum(item not in known for item in asked) / max(len(asked), 1),
    }
    # A request without a history is answered from the stored one, which is no skew.
    told = [row for row in served if row.get(names.HISTORY_ITEM_IDS)]
    return _distances(_features(trained), _features(told) if told else [], bound), facts


def _training(store: Store) -> Iterator[Row]:
    found = [a for step in store.steps() if step.name == "InteractionGen" for a in step.outputs.get("examples", [])]
    if not found:
        raise InputError("the workspace's newest run has made no training examples; `homefeed run` makes them.")
    from tfx.types.standard_artifacts import Examples

    examples = Examples()
    examples.uri, examples.split_names = found[-1].uri, found[-1].properties["split_names"].string_value
    return read_split(examples, names.TRAIN_SPLIT)


def _features(rows: Iterable[Row]) -> list[dict[str, list[Any]]]:
    described = []
    for row in rows:
        moment = int(row[names.TIMESTAMP][0])
        times = [time for time in row.get(names.HISTORY_TIMESTAMPS, ()) if time]
        described.append(
            {
                "history_item": row.get(names.HISTORY_ITEM_IDS, []),
                "history_event": row.get(names.HISTORY_EVENTS, []),
                "trait": row.get(names.TRAITS, []),
                "weekday": [str((moment // _DAY + 3) % 7).encode()],  # 1970 began on a Thursday
                "history_length": [len(row.get(names.HISTORY_ITEM_IDS, ()))],
                "hour": [moment % _DAY // 3600],
                "days_since": [max(moment - max(times), 0) // _DAY] if times else [],
            }
        )
    return described


def _distances(trained: list[dict[str, list[Any]]], served: list[dict[str, list[Any]]], bound: float) -> list[Distance]:
    if not served:
        return []
    statistics = [_statistics(side) for side in (trained, served)]
    schema = tfdv.infer_schema(statistics[0])
    for feature in schema.feature:
        feature.presence.Clear()
        comparator = feature.skew_comparator
        if feature.name in NUMBERS:
            comparator.jensen_shannon_divergence.threshold = bound
        else:
            comparator.infinity_norm.threshold = bound
    found = tfdv.validate_statistics(statistics[0], schema, serving_statistics=statistics[1])
    distances = [
        Distance(info.path.step[0], type(one).Type.Name(one.type), one.value, one.threshold)
        for info in found.drift_skew_info
        for one in info.skew_measurements
    ]
    return sorted(distances, key=lambda distance: -distance.value)


def _statistics(rows: list[dict[str, list[Any]]]) -> Any:
    kinds = {**dict.fromkeys(WORDS, pa.binary()), **dict.fromkeys(NUMBERS, pa.int64())}
    arrays = [pa.array([row[name] or None for row in rows], pa.large_list(kind)) for name, kind in kinds.items()]
    return stats_impl.generate_statistics_in_memory(pa.RecordBatch.from_arrays(arrays, list(kinds)))


def print_drift(distances: list[Distance], facts: dict[str, float], console: Console) -> None:
    """The tables a person sees."""
    table = Table("", "", title="What was compared")
    for name, value in facts.items():
        table.add_row(name, f"{value:,.0f}" if value > 1 or value == 0 else f"{value:.3f}")
    console.print(table)
    table = Table("feature", "distance", "bound", "by", title="Requests beside training")
    for distance in distances:
        style = "red" if distance.is_far else ""
        table.add_row(
            distance.feature, f"{distance.value:.3f}", f"{distance.bound:.2f}", distance.measure.lower(), style=style
        )
    console.print(table if distances else "No request brought a history; there is nothing to compare.")
