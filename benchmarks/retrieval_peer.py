"""The peers' side of `benchmarks.retrieval`, run by a Python that has ScaNN and Faiss: METHOD VECTORS QUERIES TRUTH K.

The three files are .npy: [items, dimensions] and [queries, dimensions] float32, [queries, K] int32. Prints a line of
JSON: {"build": seconds, "bytes": of the index, "curve": [[setting, recall, milliseconds a query], …]}; one thread, one
query at a time, the median.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import psutil


def measured(search: Callable[[np.ndarray], Any], queries: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(recall, milliseconds) of a search for one query."""
    search(queries[0])
    seconds, hits = [], 0
    for query, right in zip(queries, truth, strict=True):
        start = time.perf_counter()
        found = search(query)
        seconds.append(time.perf_counter() - start)
        hits += len(set(np.asarray(found).ravel().tolist()) & set(right.tolist()))
    return hits / truth.size, 1000 * float(np.median(seconds))


def faiss_ivf(vectors: np.ndarray, queries: np.ndarray, truth: np.ndarray, k: int) -> tuple[list, int]:
    """IVF over 8-bit scalars."""
    import faiss

    faiss.omp_set_num_threads(1)
    lists = max(int(4 * len(vectors) ** 0.5), 1)
    index = faiss.index_factory(vectors.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[: lists * 64])
    index.add(vectors)
    curve = []
    for probes in (1, 2, 4, 8, 16, 32, 64):
        index.nprobe = probes
        curve.append([probes, *measured(lambda q: index.search(q[np.newaxis], k)[1], queries, truth)])
    return curve, len(faiss.serialize_index(index))


def scann_tree(vectors: np.ndarray, queries: np.ndarray, truth: np.ndarray, k: int) -> tuple[list, int]:
    """Its tree with asymmetric hashing and exact re-ranking, as its documentation advises."""
    import scann

    before = psutil.Process().memory_info().rss
    leaves = max(int(2 * len(vectors) ** 0.5), 1)
    searcher = (
        scann.scann_ops_pybind.builder(vectors, k, "dot_product")
        .tree(num_leaves=leaves, num_leaves_to_search=leaves // 20, training_sample_size=250_000)
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(2 * k)
        .build()
    )
    taken = psutil.Process().memory_info().rss - before
    curve = []
    for probes in (1, 2, 4, 8, 16, 32, 64):

        def search(query: np.ndarray, probes: int = probes) -> Any:
            return searcher.search(query, final_num_neighbors=k, leaves_to_search=probes)[0]

        curve.append([probes, *measured(search, queries, truth)])
    return curve, taken


def main(method: str, vectors: str, queries: str, truth: str, k: str) -> None:
    start = time.monotonic()
    methods = {"faiss": faiss_ivf, "scann": scann_tree}
    loaded = [np.load(path) for path in (vectors, queries, truth)]
    curve, size = methods[method](loaded[0], loaded[1], loaded[2], int(k))
    print(json.dumps({"build": time.monotonic() - start, "bytes": size, "curve": curve}))


if __name__ == "__main__":
    main(*sys.argv[1:])
