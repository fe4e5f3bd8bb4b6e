"""Loads a version: the SavedModel, its warm-up requests, and the batches that its requests are run in."""

import asyncio
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import prediction_log_pb2

from schema.errors import InputError
from schema.saved_model import EXTRA, SERVE_TAG, WARM_UP, ServableModel
from serving.batching import BatchedModel, BatchPool
from serving.errors import ServingError, of_runtime
from serving.inference import Arrays, Version, classify, multi_inference, predict, regress
from serving.metrics import Metrics

_MOST_WARM_UP = 1000  # records; TensorFlow Serving refuses more


@dataclass(frozen=True)
class Loader:
    """How versions are loaded.

    Attributes:
      metrics: of the server.
      pool: that runs requests in batches; None runs each on its own.
      tags: of the graph.
      session: TensorFlow's configuration of a session.
      warm_up: whether a version replays its warm-up requests before it answers others.
      iterations: how often it does.
    """

    metrics: Metrics = field(default_factory=Metrics)
    pool: BatchPool | None = None
    tags: tuple[str, ...] = (SERVE_TAG,)
    session: config_pb2.ConfigProto | None = None
    warm_up: bool = True
    iterations: int = 1

    def load(self, path: str, number: int) -> "Loaded":
        """Loads the version in a folder.

        Raises:
          InputError: it does not load, or a warm-up request fails.
        """
        loaded = Loaded(ServableModel(path, self.tags, self.session), number, self.pool)
        if self.warm_up:
            self._warm_up(path, loaded)
        return loaded

    def _warm_up(self, path: str, loaded: "Loaded") -> None:
        file = os.path.join(path, EXTRA, WARM_UP)
        if not tf.io.gfile.exists(file):
            return
        start, version = time.perf_counter(), loaded.version()
        try:
            logs = _read_logs(file)
            for log in (log for log in logs for _ in range(self.iterations)):
                _replay(version, log)
        except (ServingError, ValueError, KeyError, DecodeError, tf.errors.OpError) as error:
            words = str(error if isinstance(error, ServingError) else of_runtime(error)).splitlines()[0]
            raise InputError(f"{file}: a warm-up request fails: {words}") from error
        self.metrics.warmup_latency.add(path, "OK", value=1e6 * (time.perf_counter() - start))


class Loaded:
    """A version that can answer.

    Args:
      model: the SavedModel.
      number: the version's.
      pool: see `Loader`.
    """

    def __init__(self, model: ServableModel, number: int, pool: BatchPool | None):
        self.number, self.definitions = number, model.signature_defs
        self._model = model if pool is None else BatchedModel(model, pool)

    def version(self, timeout_ms: int = 0) -> Version:
        """What a request asks, which is given up after a time; never where 0."""

        model = self._model

        def run(signature: str, inputs: Arrays, outputs: Collection[str]) -> dict[str, np.ndarray]:
            return model(signature, inputs, outputs, timeout_ms)

        async def ask(signature: str, inputs: Arrays, outputs: Collection[str]) -> dict[str, np.ndarray]:
            if isinstance(model, BatchedModel):
                return await model.ask(signature, inputs, outputs, timeout_ms)
            return await asyncio.get_running_loop().run_in_executor(None, run, signature, inputs, outputs)

        return Version(self.number, self.definitions, run, ask)


def _read_logs(file: str) -> list[prediction_log_pb2.PredictionLog]:
    records = tf.data.TFRecordDataset(file).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    if len(logs) > _MOST_WARM_UP:
        raise ValueError(f"Number of warmup records exceeds the maximum ({_MOST_WARM_UP})")
    return logs


def _replay(version: Version, log: prediction_log_pb2.PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind is None:
        raise ValueError("a record holds no request")
    request = getattr(log, kind).request
    if kind == "predict_log":
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        predict(version, request.model_spec.signature_name, inputs, list(request.output_filter))
    elif kind == "classify_log":
        classify(version, request.model_spec.signature_name, request.input)
    elif kind == "regress_log":
        regress(version, request.model_spec.signature_name, request.input)
    elif kind == "multi_inference_log":
        multi_inference(version, request.tasks, request.input)
    else:
        raise ValueError(f"a record holds {kind}, which is not replayed")
