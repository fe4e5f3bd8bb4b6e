"""ServingValidator: is the exported model really servable? A model server process answers real requests, or it is not.

TFX's InfraValidator knows only Docker and Kubernetes. This one starts the embedded server on the model, asks it over
gRPC and REST what pages would ask, and writes the InfraBlessing that Pusher honours.
"""

import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import tfx.v1 as tfx
from tfx.components.infra_validator import executor as infra_validator
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model
from tfx.utils import import_utils, path_utils
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter

from components.examples import decode_example, split_pattern
from schema import names
from schema.saved_model import ServableModel

progress = logging.getLogger("homefeed.progress")

VERDICT = "verdict.json"
_START_SECONDS = 120
_VERSION = "1"
Ask = Callable[[str, Mapping[str, Any]], dict[str, np.ndarray]]


def requests_from(examples: Examples, count: int) -> list[dict[str, Any]]:
    """Recommend requests of the first held-out users: raw ids and histories, and what they had left out."""
    files = sorted(fileio.glob(split_pattern(examples, names.EVAL_SPLIT)))
    requests = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP").take(count).as_numpy_iterator():
        row = decode_example(record)
        requests.append(
            {
                names.USER_ID: np.array(row[names.USER_ID], object),
                names.HISTORY_ITEM_IDS: np.array([row.get(names.HISTORY_ITEM_IDS) or [b""]], object),
                names.EXCLUDE_ITEM_IDS: np.array([row.get(names.SEEN_ITEM_IDS) or [b""]], object),
            }
        )
    return requests


def faults_of(answer: Mapping[str, np.ndarray], request: Mapping[str, Any]) -> list[str]:
    """What is wrong with an answer to a recommend request; nothing for a good one."""
    shown = [item for item in answer[names.ITEM_IDS][0].tolist() if item]
    unwanted = {*request[names.EXCLUDE_ITEM_IDS][0].tolist(), *request[names.HISTORY_ITEM_IDS][0].tolist()}
    checks = (
        (not shown, "is empty"),
        (len(shown) != len(set(shown)), "holds an item twice"),
        (bool(unwanted & set(shown)), "holds an item that was to be left out"),
        (not np.isfinite(answer[names.SCORES]).all(), "holds a score that is not finite"),
        (bool((np.diff(answer[names.SCORES][0][: len(shown)]) > 1e-5).any()), "is not in the order of its scores"),
    )
    return [words for is_wrong, words in checks if is_wrong]


def check(ask: Mapping[str, Ask], expected: Ask, requests: list[dict[str, Any]], max_latency_ms: float) -> list[str]:
    """Asks a server over every protocol and compares with the model itself.

    Args:
      ask: protocol -> how to ask.
      expected: asks the model in this process.
      requests: as `requests_from` makes them.
      max_latency_ms: bound for each protocol's median.

    Returns:
      One sentence for each fault; none for a model that may be pushed.
    """
    if not requests:
        return ["no held-out user has new items, so there is nothing to ask."]
    faults = []
    for protocol, predict in ask.items():
        predict(names.RECOMMEND, requests[0])  # the first call of a server is no measure
        seconds = []
        for number, request in enumerate(requests):
            start = time.perf_counter()
            answer = predict(names.RECOMMEND, request)
            seconds.append(time.perf_counter() - start)
            faults += [f"{protocol}: answer {number} {fault}." for fault in faults_of(answer, request)]
            model = expected(names.RECOMMEND, request)
            if not (answer[names.ITEM_IDS] == model[names.ITEM_IDS]).all() or not np.allclose(
                answer[names.SCORES], model[names.SCORES], rtol=1e-4, atol=1e-4
            ):
                faults.append(f"{protocol}: answer {number} is not the model's own.")
        median = 1000 * statistics.median(seconds)
        progress.info("%s answers in %.1f ms (median of %d)", protocol, median, len(seconds))
        if median > max_latency_ms:
            faults.append(f"{protocol}: the median answer takes {median:.0f} ms, allowed are {max_latency_ms:.0f} ms.")
    return faults


@contextmanager
def served(base_path: str) -> Iterator[tuple[int, int]]:
    """A model server process over a folder of versions; gives its gRPC and REST ports.

    Raises:
      RuntimeError: the server ends, or does not answer in time; with what it printed.
    """
    with tempfile.TemporaryFile() as output:
        grpc_port, rest_port = _free_ports(2)
        command = [sys.executable, "-m", "pipeline.cli", "serve", f"--model_name={names.MODEL_NAME}"]
        command += [f"--model_base_path={base_path}", f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not (_listens(grpc_port) and _listens(rest_port)):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise RuntimeError(f"the model server did not start: {output.read().decode()[-500:].strip()}")
                time.sleep(0.1)
            yield grpc_port, rest_port
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def as_version(model_path: str) -> Iterator[str]:
    """A folder of versions that holds one exported model."""
    with tempfile.TemporaryDirectory() as base:
        os.symlink(os.path.abspath(model_path), os.path.join(base, _VERSION))
        yield base


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@tfx.dsl.components.component
def ServingValidator(
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    blessing: OutputArtifact[InfraBlessing],
    connect_fn: Parameter[str],
    requests: Parameter[int],
    max_latency_ms: Parameter[float],
    code_version: Parameter[str],
) -> None:
    """Blesses a model that a server answers with. `connect_fn` is the path of `(address, model name) -> client`."""
    path = path_utils.serving_model_path(model.uri)
    connect = import_utils.import_class_by_path(connect_fn)
    asked = requests_from(examples, requests)
    try:
        with as_version(path) as base, served(base) as (grpc_port, rest_port):
            clients = {
                "gRPC": connect(f"grpc://localhost:{grpc_port}", names.MODEL_NAME),
                "REST": connect(f"http://localhost:{rest_port}", names.MODEL_NAME),
            }
            ask = {protocol: client.predict for protocol, client in clients.items()}
            faults = check(ask, ServableModel(path), asked, max_latency_ms)
    except RuntimeError as error:
        faults = [str(error)]
    except Exception as error:  # a client's own error says that the model cannot be asked
        faults = [f"a request failed ({error})."]
    with fileio.open(os.path.join(blessing.uri, VERDICT), "w") as file:
        file.write(json.dumps({"blessed": not faults, "requests": len(asked), "faults": faults}, indent=1))
    mark = infra_validator._mark_not_blessed if faults else infra_validator._mark_blessed
    mark(blessing)
