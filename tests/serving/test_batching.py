"""Requests that are run together."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from schema.errors import InputError
from serving.client import RequestFailed, connect
from tests.serving.running import asked, push, serving, with_parameters


def test_requests_that_wait_together_are_run_together(exported, tmp_path):
    push(exported, 1, tmp_path)
    page = tmp_path / "monitoring.config"
    page.write_text("prometheus_config { enable: true }")
    text = "max_batch_size { value: 8 } batch_timeout_micros { value: 100000 } num_batch_threads { value: 2 }"
    flags = with_parameters(
        tmp_path, f'{text} allowed_batch_sizes: 4 allowed_batch_sizes: 8 thread_pool_name {{ value: "t" }}'
    )
    with serving(tmp_path, monitoring_config_file=str(page), **flags) as (grpc_port, rest_port):
        client = connect(f"grpc://localhost:{grpc_port}", "m")
        with ThreadPoolExecutor(8) as pool:
            start = time.monotonic()
            values = list(
                pool.map(
                    lambda x: client.predict("serving_default", {"x": np.array([x, x + 1], np.float32)})["y"], range(8)
                )
            )
            seconds = time.monotonic() - start
        assert [v.tolist() for v in values] == [[x / 2 + 2, (x + 1) / 2 + 2] for x in range(8)]
        assert seconds < 0.75  # each alone would have waited 0.1 s, one after another
        told = httpx.get(f"http://localhost:{rest_port}/monitoring/prometheus/metrics").text
        runs = int(told.split('runtime_latency_count{model_name="m",API="Predict",runtime="TF1"} ')[1].split()[0])
        assert (
            runs == 8 and ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name="t"} 8' in told
        )
        with pytest.raises(RequestFailed, match="Task size 9 is larger than maximum input batch size 8"):
            client.predict("serving_default", {"x": np.zeros(9, np.float32)})
        with pytest.raises(RequestFailed, match="at least one dimension"):
            client.predict("scalar", {"value": np.float32(1)})
        with pytest.raises(RequestFailed, match="equal 0th-dimension size"):
            client.predict("two", {"x": np.zeros(1, np.float32), "text": np.array([b"a", b"b"], object)})


def test_what_fails_in_a_batch_fails_for_who_asked(exported, tmp_path):
    push(exported, 1, tmp_path)
    with serving(tmp_path, **with_parameters(tmp_path, "batch_timeout_micros { value: 50000 }")) as (grpc_port, _):
        client = connect(f"grpc://localhost:{grpc_port}", "m")
        with pytest.raises(RequestFailed, match="not a number") as error:
            client.predict("fails", {"value": np.zeros(1, np.float32)})
        assert error.value.code == "INVALID_ARGUMENT"
        assert asked(client) == 2.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("allowed_batch_sizes: 4 max_batch_size { value: 8 }", "end with 8"),
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 8 max_batch_size { value: 8 }", "ascend"),
        ("num_batch_threads { value: 0 }", "1 or more"),
        ("max_batch { value: 0 }", "Error parsing text-format tensorflow.serving.BatchingParameters"),
    ],
)
def test_batching_parameters_that_contradict_each_other_are_named(exported, tmp_path, text, words):
    push(exported, 1, tmp_path)
    with pytest.raises(InputError, match=words), serving(tmp_path, **with_parameters(tmp_path, text)):
        pass
