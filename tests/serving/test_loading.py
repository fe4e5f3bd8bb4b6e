"""Warm-up before a version is served."""

import shutil

import httpx
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from schema.saved_model import EXTRA, WARM_UP
from serving.client import connect
from tests.serving.running import asked, push, serving


def warm_up(folder, *values):
    (folder / EXTRA).mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / EXTRA / WARM_UP)) as writer:
        for value in values:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.model_spec.name = "m"
            log.predict_log.request.model_spec.signature_name = "fails"
            log.predict_log.request.inputs["value"].CopyFrom(tf.make_tensor_proto(np.array([value], np.float32)))
            writer.write(log.SerializeToString())


def test_a_version_whose_warm_up_fails_is_not_served(exported, tmp_path):
    warm_up(push(exported, 1, tmp_path, 1), 1.0, 2.0)
    shutil.copytree(exported[2], tmp_path / ".2")
    warm_up(tmp_path / ".2", 0.0)
    (tmp_path / ".2").rename(tmp_path / "2")
    with serving(tmp_path) as (grpc_port, rest_port):
        client = connect(f"grpc://localhost:{grpc_port}", "m")
        assert client.status() == {2: "END", 1: "AVAILABLE"} and asked(client) == 2.5
        told = httpx.get(f"http://localhost:{rest_port}/v1/models/m/versions/2").json()["model_version_status"][0]
        assert "warm-up request fails: not a number" in told["status"]["error_message"]
    with serving(tmp_path, enable_model_warmup=False) as (grpc_port, _):
        assert asked(connect(f"grpc://localhost:{grpc_port}", "m")) == 3.5
