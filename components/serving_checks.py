"""The checks of ServingValidator: of a SavedModel's files, and of what a server answers. Each has a name, and says of
what it refuses in one sentence what was found."""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from components.serving_requests import Inputs, Person
from schema import names
from schema.signatures import SIGNATURES

Ask = Callable[[str, Mapping[str, Any]], dict[str, np.ndarray]]

SIGNATURES_CHECK, OPS, SIZE, START = "signatures", "ops", "size", "start"
CATALOG, EMPTY, DUPLICATES, UNKNOWN, LEFT_OUT, OWNED = (
    "catalogue",
    "empty",
    "duplicates",
    "unknown_items",
    "left_out",
    "owned",
)
FINITE, ORDER, PROPENSITIES, OWN_ANSWERS = "finite", "order", "propensities", "own_answers"
LATENCY, SLOWDOWN, MEMORY = "latency", "slowdown", "memory"
# Check -> what it asks for.
CHECKS = {
    SIGNATURES_CHECK: "every signature with its inputs and outputs",
    OPS: "only ops of the stock TensorFlow Serving binary",
    SIZE: "no more bytes than serving.max_model_mb",
    START: "a server loads it and answers",
    CATALOG: "every item of the catalogue has an embedding",
    EMPTY: "an answer for everybody",
    DUPLICATES: "no item twice in a list",
    UNKNOWN: "only items of the catalogue",
    LEFT_OUT: "excluded items are not shown",
    OWNED: "what the user already had is not shown",
    FINITE: "finite scores",
    ORDER: "best first",
    PROPENSITIES: "with exploration, propensities in (0, 1]",
    OWN_ANSWERS: "the trainer's own answers",
    LATENCY: "a median answer within serving.max_latency_ms",
    SLOWDOWN: "no more than serving.max_slowdown times the last pushed model's time",
    MEMORY: "no more than serving.max_memory_mb",
}
# Ops of TF-Text 2.12, which the stock binary links; under the names that TF-Text registers them by.
_TEXT_OPS = {
    prefix + name
    for prefix in ("", "TFText>")
    for name in ("FastBertTokenize", "FastBertNormalize", "FastWordpieceTokenizeWithOffsets", "NormalizeUTF8")
}
_PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}  # call back into a Python that a server does not have
_K = 20
_EXCLUDED = 3  # of each list, that the next request does not want
_ITEMS_AT_ONCE = 1_024
_EITHER_WAY = 0.1  # share of an answer's items and reasons that rounding may change
_FASTEST = 0.005  # seconds: what is faster than this is not told apart


@dataclass
class Results:
    """What the checks found.

    Attributes:
      faults: check -> one sentence for each thing that is wrong, empty where it passed; a check that was not made has
        no entry.
      measured: check -> what was measured.
    """

    faults: dict[str, list[str]] = field(default_factory=dict)
    measured: dict[str, str] = field(default_factory=dict)

    def add(self, check: str, faults: Iterable[str] = (), measured: str = "") -> None:
        """Notes that a check was made, and what it found."""
        self.faults.setdefault(check, []).extend(faults)
        if measured:
            self.measured[check] = measured

    @property
    def passed(self) -> bool:
        """Whether no check found anything."""
        return not any(self.faults.values())


def check_files(path: str, definitions: Mapping[str, meta_graph_pb2.SignatureDef], max_bytes: int) -> Results:
    """What can be said of a SavedModel without loading it."""
    results = Results()
    results.add(SIGNATURES_CHECK, _signature_faults(definitions))
    foreign = sorted(foreign_ops(path))
    results.add(OPS, [f"the graph holds {', '.join(foreign)}: not in the stock binary."] if foreign else [])
    size = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    too_large = [f"the model has {_mb(size)}, allowed are {_mb(max_bytes)}."] if size > max_bytes else []
    results.add(SIZE, too_large, _mb(size))
    return results


def _signature_faults(definitions: Mapping[str, meta_graph_pb2.SignatureDef]) -> Iterator[str]:
    for name, (needed, outputs) in SIGNATURES.items():
        definition = definitions.get(name)
        if definition is None:
            yield f"there is no signature {name}."
            continue
        without_default = set(definition.inputs) - set(definition.defaults)
        if without_default != set(needed):
            yield f"{name} cannot do without {_listed(without_default)}; a request brings {_listed(needed)}."
        if missing := set(outputs) - set(definition.outputs):
            yield f"{name} does not answer with {_listed(missing)}."


def foreign_ops(path: str) -> set[str]:
    """Ops of a SavedModel that the stock TensorFlow Serving binary does not have."""
    with tf.io.gfile.GFile(os.path.join(path, "saved_model.pb"), "rb") as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    found: set[str] = set()
    for graph in (meta_graph.graph_def for meta_graph in saved_model.meta_graphs):
        functions = {function.signature.name for function in graph.library.function}
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        found |= {node.op for node in nodes} - functions
    # tf.raw_ops is made when TensorFlow is built: no library that is loaded later adds to it.
    core = {op for op in found if hasattr(tf.raw_ops, op) or op.startswith("_")}
    return (found - core - _TEXT_OPS) | (found & _PYTHON_OPS)


def check_answers(results: Results, protocol: str, ask: Ask, people: list[Person], catalog: frozenset[bytes]) -> float:
    """Asks for each of the people and looks at the lists.

    Args:
      results: gets what is found.
      protocol: over which `ask` asks, for the sentences.
      ask: (signature, inputs) -> outputs.
      people: whom to ask for.
      catalog: all item ids.

    Returns:
      The median time of an answer in seconds.
    """
    first = people[0].known
    ask(names.RECOMMEND, first)  # the first call of a server is no measure
    seconds = []
    for number, person in enumerate(people):
        found: list[tuple[str, str]] = []
        for inputs, unwanted in ((person.known, person.seen | person.history), (person.told, person.history)):
            start = time.perf_counter()
            answer = ask(names.RECOMMEND, {**inputs, names.K: np.array([_K], np.int32)})
            seconds.append(time.perf_counter() - start)
            found += list_faults(answer, catalog)
            if unwanted & set(_shown(answer)):
                found.append((OWNED, "holds an item that the user already had"))
        excluded = _shown(answer)[:_EXCLUDED]
        wanted = {**person.told, names.EXCLUDE_ITEM_IDS: np.array([[*excluded, b""]], object)}
        if set(excluded) & set(_shown(ask(names.RECOMMEND, wanted))):
            found.append((LEFT_OUT, "holds an item that was to be left out"))
        exploring = {names.EXPLORATION: np.array([1.0], np.float32), names.SEED: np.array([number], np.int64)}
        found += _propensity_faults(ask(names.RECOMMEND, {**person.told, **exploring}))
        for check in (EMPTY, DUPLICATES, UNKNOWN, FINITE, ORDER, OWNED, LEFT_OUT, PROPENSITIES):
            results.add(check, [f"{protocol}: answer {number} {words}." for name, words in found if name == check])
    return statistics.median(seconds)


def list_faults(answer: Mapping[str, np.ndarray], catalog: frozenset[bytes]) -> Iterator[tuple[str, str]]:
    """(check, what is wrong) of an answer to one user; nothing for a good one."""
    shown, scores = _shown(answer), answer[names.SCORES][0]
    if not shown:
        yield EMPTY, "is empty"
    if len(shown) != len(set(shown)):
        yield DUPLICATES, "holds an item twice"
    if set(shown) - catalog:
        yield UNKNOWN, "holds an item that is not in the catalogue"
    if not np.isfinite(scores).all():
        yield FINITE, "holds a score that is not finite"
    elif (np.diff(scores[: len(shown)]) > 1e-5).any():
        yield ORDER, "is not in the order of its scores"


def _shown(answer: Mapping[str, np.ndarray]) -> list[bytes]:
    return [item for item in answer[names.ITEM_IDS][0].tolist() if item]


def _propensity_faults(answer: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    propensities = answer[names.PROPENSITIES][0][: len(_shown(answer))]
    if not ((propensities > 0) & (propensities <= 1)).all():
        yield PROPENSITIES, "explores with a propensity that is not above 0 and at most 1"


def check_own_answers(
    results: Results,
    protocol: str,
    ask: Ask,
    expected: Iterable[tuple[str, Inputs, Mapping[str, np.ndarray]]],
) -> None:
    """Compares a server's answers with those that Trainer had; `expected` is (signature, request, answer)."""
    count = 0
    for count, (signature, inputs, answer) in enumerate(expected, 1):
        if not _same(ask(signature, inputs), answer):
            results.add(OWN_ANSWERS, [f"{protocol}: {signature} does not answer request {count} as in training."])
    results.add(OWN_ANSWERS, [] if count else ["the model brings no answers of its training to compare with."])


def _same(answer: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> bool:
    """Whether two answers are the same but for what another rounding makes of ties: items of equal scores may change
    places, and a few reasons may be another channel's that speaks as loudly."""
    for name, values in expected.items():
        if name not in answer or answer[name].shape != values.shape:
            return False
        if values.dtype != object and not _close(answer[name], values).all():
            return False
    if names.ITEM_IDS not in expected:
        return all((answer[name] == values).all() for name, values in expected.items() if values.dtype == object)
    sides = (answer[names.ITEM_IDS], expected[names.ITEM_IDS], expected[names.SCORES])
    if not all(_same_but_for_ties(*rows) for rows in zip(*sides, strict=True)):
        return False
    same_places = answer[names.ITEM_IDS] == expected[names.ITEM_IDS]
    others = [name for name, values in expected.items() if values.dtype == object and name != names.ITEM_IDS]
    return all(((answer[name] != expected[name]) & same_places).mean() <= _EITHER_WAY for name in others)


def _same_but_for_ties(found: np.ndarray, wanted: np.ndarray, scores: np.ndarray) -> bool:
    """Whether each item of a list has a place of its own score; a few that are not wanted may tie with the last."""
    score_of = dict(zip(wanted.tolist(), scores.tolist(), strict=True))
    theirs = np.array([score_of.get(item, scores[-1]) for item in found.tolist()])
    items = found[found != names.PADDING.encode()].tolist()
    others = [item for item in items if item not in score_of]
    if len(set(items)) < len(items) or len(others) > _EITHER_WAY * len(found):
        return False
    return bool(((found == wanted) | _close(theirs, scores)).all())


def _close(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.isclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)


def check_catalog(results: Results, ask: Ask, catalog: Iterable[bytes]) -> None:
    """Asks for the embedding of every item."""
    items, empty = sorted(catalog), []
    for start in range(0, len(items), _ITEMS_AT_ONCE):
        part = items[start : start + _ITEMS_AT_ONCE]
        vectors = ask(names.EMBED_ITEM, {names.ITEM_ID: np.array(part, object)})[names.EMBEDDING]
        is_good = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
        empty += [item for item, good in zip(part, is_good, strict=True) if not good]
    some = ", ".join(item.decode("utf-8", "replace") for item in empty[:3])
    faults = [f"{len(empty)} of {len(items)} items have no embedding, among them {some}."] if empty else []
    results.add(CATALOG, faults, f"{len(items)} items")


def check_latency(results: Results, medians: Mapping[str, float], max_ms: float) -> None:
    """Medians in seconds by protocol."""
    told = {protocol: f"{1000 * median:.1f} ms" for protocol, median in medians.items()}
    slow = [protocol for protocol, median in medians.items() if 1000 * median > max_ms]
    words = "{}: the median answer takes {}, allowed are {:.0f} ms."
    faults = [words.format(protocol, told[protocol], max_ms) for protocol in slow]
    results.add(LATENCY, faults, ", ".join(f"{protocol} {median}" for protocol, median in told.items()))


def check_slowdown(results: Results, candidate: Ask, baseline: Ask, people: list[Person], most: float) -> None:
    """Compares the times of two models in this process, in turns, so that what else the machine does hits both."""
    seconds: dict[str, list[float]] = {"candidate": [], "baseline": []}
    models = {"candidate": candidate, "baseline": baseline}
    for ask in models.values():
        ask(names.RECOMMEND, people[0].known)
    for person in people:
        for name, ask in models.items():
            start = time.perf_counter()
            ask(names.RECOMMEND, person.known)
            seconds[name].append(time.perf_counter() - start)
    mine, theirs = (max(statistics.median(seconds[name]), _FASTEST) for name in ("candidate", "baseline"))
    times = f"{mine / theirs:.1f} times ({1000 * mine:.1f} ms, the last pushed model {1000 * theirs:.1f} ms)"
    faults = [f"the median answer takes {times}, allowed are {most:g} times."] if mine > most * theirs else []
    results.add(SLOWDOWN, faults, times)


def check_memory(results: Results, used: int | None, most: int) -> None:
    """Bytes that the server has; None where they cannot be told."""
    if used is not None:
        too_much = [f"the server takes {_mb(used)}, allowed are {_mb(most)}."] if used > most else []
        results.add(MEMORY, too_much, _mb(used))


def _mb(count: int) -> str:
    return f"{count / 2**20:,.0f} MB"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(values)) or "nothing"
