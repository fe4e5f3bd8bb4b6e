"""How the embedded server is run: versions, labels, swaps, batches, warm-up, TLS, limits, the end."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from schema.errors import InputError
from schema.saved_model import EXTRA, WARM_UP
from serving.client import RequestFailed, Tls, connect
from serving.flags import Flags
from serving.health import HealthCheckRequest, HealthCheckResponse
from serving.logs import JsonLines
from serving.messages import ModelServerConfig
from serving.model_config import model_config
from serving.server import running_server
from serving.versions import Policy, VersionedModel
from tests.serving.certificates import certificates
from tests.serving.half_plus_two import write_half_plus_two

X = {"x": np.array([1.0], np.float32)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Two versions that tell themselves apart: 1 answers 2.5, 2 answers 3.5."""
    base = tmp_path_factory.mktemp("exported")
    return {1: write_half_plus_two(base / "1"), 2: write_half_plus_two(base / "2", plus=3.0)}


def push(exported, version, base, number=None):
    """Copies a version to where a server looks, in one step."""
    number = number or version
    staging = base / f".{number}"
    shutil.copytree(exported[version], staging)
    return staging.rename(base / str(number))


def serving(base, **flags):
    return running_server(Flags(-1, rest_api_port=-1, model_name="m", model_base_path=str(base), **flags))


def asked(client):
    return float(client.predict("serving_default", X)["y"][0])


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to be in time")


# --- versions ---------------------------------------------------------------------------------------------------------


def test_a_new_version_takes_over_and_a_broken_one_never_does(exported, tmp_path):
    push(exported, 1, tmp_path)
    with serving(tmp_path, file_system_poll_wait_seconds=0.1) as (grpc_port, _):
        client = connect(f"grpc://localhost:{grpc_port}", "m")
        shutil.copytree(exported[1], tmp_path / ".partial")
        (tmp_path / ".partial" / "saved_model.pb").write_bytes(b"\x0a\xff broken")
        (tmp_path / ".partial").rename(tmp_path / "3")
        push(exported, 2, tmp_path)
        while client.status().get(2) != "AVAILABLE":
            assert asked(client) in (2.5, 3.5)
        wait_for(lambda: client.status() == {3: "END", 2: "AVAILABLE", 1: "END"})
        assert asked(client) == 3.5


def test_half_a_version_is_not_looked_at(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / ".staging").mkdir()
    model = VersionedModel("m", str(tmp_path))
    model.refresh()
    assert not model.is_served and os.listdir(tmp_path / "7") == []


@pytest.mark.parametrize(
    ("policy", "served"),
    [("", {3}), ("latest { num_versions: 2 }", {2, 3}), ("all {}", {1, 2, 3}), ("specific { versions: 1 }", {1})],
)
def test_version_policies(exported, tmp_path, policy, served):
    for number in (1, 2, 3):
        (tmp_path / "m").mkdir(exist_ok=True)
        push(exported, 1, tmp_path / "m", number)
    config = tmp_path / "models.config"
    entry = f'name: "m" base_path: "{tmp_path}/m" model_platform: "tensorflow" model_version_policy {{ {policy} }}'
    config.write_text(f"model_config_list {{ config {{ {entry} }} }}")
    flags = Flags(-1, model_config_file=str(config), file_system_poll_wait_seconds=0.1)
    with running_server(flags) as (grpc_port, rest_port):
        assert rest_port == 0
        client = connect(f"grpc://localhost:{grpc_port}", "m")
        assert {version for version, state in client.status().items() if state == "AVAILABLE"} == served
        push(exported, 2, tmp_path / "m", 4)
        then = {"latest { num_versions: 2 }": {3, 4}, "all {}": {1, 2, 3, 4}, "": {4}}.get(policy, served)
        wait_for(lambda: {v for v, state in client.status().items() if state == "AVAILABLE"} == then)


def test_hot_swaps_under_load_fail_no_request(exported, tmp_path):
    push(exported, 1, tmp_path, 1)
    with serving(tmp_path, file_system_poll_wait_seconds=0.05) as (grpc_port, rest_port):
        stop, answers, errors = threading.Event(), set(), []

        def load(address):
            client = connect(address, "m")
            while not stop.is_set():
                try:
                    answers.add(asked(client))
                except RequestFailed as error:
                    errors.append(error)

        addresses = [f"grpc://localhost:{grpc_port}", f"http://localhost:{rest_port}"] * 2
        with ThreadPoolExecutor(len(addresses)) as pool:
            running = [pool.submit(load, address) for address in addresses]
            watching = connect(addresses[0], "m")
            for number in range(2, 8):
                push(exported, 1 + number % 2, tmp_path, number)
                wait_for(lambda number=number: watching.status().get(number) == "AVAILABLE")
            stop.set()
            for future in running:
                future.result()
        assert not errors and answers == {2.5, 3.5}


# --- labels and configuration -----------------------------------------------------------------------------------------


@pytest.fixture
def labelled(exported, tmp_path):
    """A server by a configuration file, of versions 1 and 2; gives its ports and a way to write another file."""
    (tmp_path / "m").mkdir()
    for version in (1, 2):
        push(exported, version, tmp_path / "m")
    file = tmp_path / "models.config"

    def write(versions, labels):
        config = model_config("m", str(tmp_path / "m"), Policy(versions, labels))
        file.with_suffix(".new").write_text(str(ModelServerConfig(model_config_list={"config": [config]})))
        file.with_suffix(".new").rename(file)

    write((1,), {"stable": 1})
    flags = Flags(-1, rest_api_port=-1, model_config_file=str(file), model_config_file_poll_wait_seconds=0.1)
    with running_server(flags) as ports:
        yield ports, write


def reload_config(client, versions, labels, base):
    config = model_config("m", base, Policy(versions, labels))
    client.reload(ModelServerConfig(model_config_list={"config": [config]}))


def test_versions_answer_by_label_over_both_protocols(labelled, tmp_path):
    (grpc_port, rest_port), _ = labelled
    client = connect(f"grpc://localhost:{grpc_port}", "m")
    assert client.status() == {1: "AVAILABLE"}
    base = str(tmp_path / "m")
    with pytest.raises(RequestFailed, match=r"assign label to version 2 .* not currently available") as refused:
        reload_config(client, (1,), {"stable": 1, "canary": 2}, base)
    assert refused.value.code == "FAILED_PRECONDITION"
    reload_config(client, (1, 2), {"stable": 1, "canary": 2}, base)
    assert client.status() == {2: "AVAILABLE", 1: "AVAILABLE"}
    for address in (f"grpc://localhost:{grpc_port}", f"http://localhost:{rest_port}"):
        found = {label: asked(connect(address, "m", label=label)) for label in ("stable", "canary")}
        assert found == {"stable": 2.5, "canary": 3.5}
        with pytest.raises(RequestFailed, match="Unrecognized servable version label: previous") as error:
            asked(connect(address, "m", label="previous"))
        assert error.value.code in ("INVALID_ARGUMENT", "400")
    reload_config(client, (2,), {"stable": 2}, base)
    assert client.status() == {2: "AVAILABLE", 1: "END"}


def test_a_changed_configuration_file_is_followed_and_a_broken_one_is_not(labelled, tmp_path):
    (grpc_port, _), write = labelled
    client = connect(f"grpc://localhost:{grpc_port}", "m")
    stable = connect(f"grpc://localhost:{grpc_port}", "m", label="stable")
    (tmp_path / "models.config").write_text("model_config_list { config {")
    time.sleep(0.5)
    assert client.status() == {1: "AVAILABLE"} and asked(stable) == 2.5
    write((2,), {"stable": 2})
    while client.status() != {2: "AVAILABLE", 1: "END"}:
        assert asked(stable) in (2.5, 3.5)
    assert asked(stable) == 3.5
    write((7,), {"stable": 7})  # there is no such version: what is served goes on
    time.sleep(0.5)
    assert client.status()[2] == "AVAILABLE" and asked(stable) == 3.5


def test_models_come_and_go_with_the_configuration(exported, tmp_path):
    for model, version in (("a", 1), ("b", 2)):
        (tmp_path / model).mkdir()
        push(exported, version, tmp_path / model)
    one, other = (model_config(name, str(tmp_path / name), Policy()) for name in ("a", "b"))
    file = tmp_path / "models.config"
    file.write_text(str(ModelServerConfig(model_config_list={"config": [one]})))
    with running_server(Flags(-1, model_config_file=str(file))) as (grpc_port, _):
        a, b = (connect(f"grpc://localhost:{grpc_port}", name) for name in ("a", "b"))
        assert asked(a) == 2.5
        with pytest.raises(RequestFailed, match="NOT_FOUND"):
            asked(b)
        a.reload(ModelServerConfig(model_config_list={"config": [one, other]}))
        assert (asked(a), asked(b)) == (2.5, 3.5)
        a.reload(ModelServerConfig(model_config_list={"config": [other]}))
        with pytest.raises(RequestFailed, match="NOT_FOUND"):
            asked(a)
        missing = model_config("c", str(tmp_path / "c"), Policy())
        with pytest.raises(RequestFailed, match=r"1 model\(s\) did not become available.*c"):
            b.reload(ModelServerConfig(model_config_list={"config": [other, missing]}))
        assert asked(b) == 3.5


def test_what_cannot_be_served_is_named(exported, tmp_path, monkeypatch):
    push(exported, 1, tmp_path)
    config = tmp_path / "models.config"
    for text, words in (
        ("", "names no model"),
        ("model_config_list {", "Error parsing text-format tensorflow.serving.ModelServerConfig"),
        ('model_config_list { config { name: "m" base_path: "x" model_platform: "tensorflow" } }', "absolute path"),
        (
            'model_config_list { config { name: "m" base_path: "/none" model_platform: "tensorflow" '
            'version_labels { key: "stable" value: 1 } } }',
            "not currently available",
        ),
    ):
        config.write_text(text)
        with pytest.raises(InputError, match=words), running_server(Flags(-1, model_config_file=str(config))):
            pass
    (tmp_path / "empty").mkdir()
    with serving(tmp_path) as (grpc_port, rest_port):
        pass
    for flags, words in (
        (Flags(-1, model_config_file="/none"), "cannot be read"),
        (Flags(-1, model_base_path=str(tmp_path / "empty")), "did not become available"),
        (Flags(-1, model_base_path=str(tmp_path / "none")), "not a folder"),
        (Flags(0, model_base_path=str(tmp_path)), "--port"),
        (Flags(7, rest_api_port=7, model_base_path=str(tmp_path)), "--rest_api_port"),
        (Flags(-1, model_base_path=str(tmp_path), batching_parameters_file="x"), "without --enable_batching"),
        (Flags(-1, model_base_path=str(tmp_path), ssl_config_file="/none"), "/none: cannot be read"),
        (Flags(-1, model_base_path=str(tmp_path), grpc_channel_arguments="a"), "KEY=VALUE"),
        (
            Flags(
                -1,
                model_base_path=str(tmp_path),
                tensorflow_session_parallelism=1,
                tensorflow_intra_op_parallelism=1,
            ),
            "--tensorflow_session_parallelism",
        ),
    ):
        with pytest.raises(InputError, match=words), running_server(flags):
            pass
    with serving(tmp_path) as (grpc_port, rest_port):
        with (
            pytest.raises(InputError, match=r"--rest_api_port"),
            running_server(Flags(-1, rest_api_port=rest_port, model_base_path=str(tmp_path))),
        ):
            pass
        with (
            pytest.raises(InputError, match=r"--port"),
            running_server(Flags(grpc_port, model_base_path=str(tmp_path))),
        ):
            pass


# --- batches ----------------------------------------------------------------------------------------------------------


def with_parameters(tmp_path, text):
    file = tmp_path / "batching.config"
    file.write_text(text)
    return {"enable_batching": True, "batching_parameters_file": str(file)}


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


# --- warm-up ----------------------------------------------------------------------------------------------------------


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


# --- TLS, limits, health, logs, the end -------------------------------------------------------------------------------


def test_tls_and_mutual_tls(exported, tmp_path):
    push(exported, 1, tmp_path)
    files = certificates(tmp_path / "tls")
    for is_mutual in (False, True):
        config = tmp_path / "ssl.config"
        parts = {"server_key": "server.key", "server_cert": "server.pem", "custom_ca": "ca.pem"}
        lines = [f"{key}: {json.dumps((files / name).read_text())}" for key, name in parts.items()]
        config.write_text("\n".join([*lines, f"client_verify: {str(is_mutual).lower()}"]))
        with serving(tmp_path, ssl_config_file=str(config)) as (grpc_port, _):
            address = f"grpcs://localhost:{grpc_port}"
            trusting = connect(address, "m", 3, tls=Tls(str(files / "ca.pem")))
            known = connect(
                address, "m", 3, tls=Tls(str(files / "ca.pem"), str(files / "client.key"), str(files / "client.pem"))
            )
            assert asked(known) == 2.5
            if is_mutual:
                with pytest.raises(RequestFailed, match="UNAVAILABLE"):
                    asked(trusting)
            else:
                assert asked(trusting) == 2.5
            with pytest.raises(RequestFailed, match="UNAVAILABLE"):
                asked(connect(f"grpc://localhost:{grpc_port}", "m", 1))


def test_requests_that_are_too_large_are_refused(exported, tmp_path):
    push(exported, 1, tmp_path)
    limit = "grpc.max_receive_message_length=1000"
    with serving(tmp_path, grpc_channel_arguments=limit) as (grpc_port, rest_port):
        client = connect(f"grpc://localhost:{grpc_port}", "m")
        with pytest.raises(RequestFailed, match="RESOURCE_EXHAUSTED"):
            client.predict("serving_default", {"x": np.zeros(1000, np.float32)})
        assert asked(client) == 2.5
        body = b'{"instances": [' + b" " * (64 << 20) + b"1.0]}"
        response = httpx.post(f"http://localhost:{rest_port}/v1/models/m:predict", content=body, timeout=60)
        assert response.status_code == 429 and "more than" in response.json()["error"]


def test_health(exported, tmp_path):
    push(exported, 1, tmp_path)
    with (
        serving(tmp_path, enable_grpc_healthcheck_service=True) as (grpc_port, _),
        grpc.insecure_channel(f"localhost:{grpc_port}") as channel,
    ):
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
        )
        assert [check(HealthCheckRequest(service=s)).status for s in ("", "PredictionService")] == [1, 1]
        with pytest.raises(grpc.RpcError) as error:
            check(HealthCheckRequest(service="other"))
        assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_pages_of_other_origins_may_ask_where_they_are_let(exported, tmp_path):
    push(exported, 1, tmp_path)
    for is_let in (False, True):
        with serving(tmp_path, rest_api_enable_cors_support=is_let) as (_, rest_port):
            url = f"http://localhost:{rest_port}/v1/models/m:predict"
            for response in (
                httpx.post(url, json={"instances": [1.0]}),
                httpx.options(url, headers={"Origin": "http://a"}),
            ):
                assert response.status_code == 200
                assert (response.headers.get("access-control-allow-origin") == "*") == is_let
            assert httpx.options(url).status_code == 400


def test_the_page_for_prometheus_is_there_where_it_is_asked_for(exported, tmp_path):
    push(exported, 1, tmp_path)
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config { enable: true path: "/metrics" }')
    with serving(tmp_path, monitoring_config_file=str(config)) as (grpc_port, rest_port):
        url = f"http://localhost:{rest_port}"
        asked(connect(f"grpc://localhost:{grpc_port}", "m"))
        httpx.post(f"{url}/v1/models/m:predict", content="nonsense")
        page = httpx.get(f"{url}/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        for line in (
            "# TYPE :tensorflow:serving:request_count counter",
            ':tensorflow:serving:request_count{model_name="m",status="OK"} 1',
            ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"} 1',
            ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"} 1',
        ):
            assert line in page.text.splitlines()
    with serving(tmp_path) as (_, rest_port):
        assert httpx.get(f"http://localhost:{rest_port}/metrics").status_code == 404


def test_logs_are_json_and_hold_what_was_named():
    record = logging.makeLogRecord({"msg": "available", "levelname": "INFO", "model": "m", "version": 3})
    line = json.loads(JsonLines().format(record))
    assert {key: line[key] for key in ("event", "level", "model", "version")} == {
        "event": "available",
        "level": "INFO",
        "model": "m",
        "version": 3,
    }


def test_the_end_waits_for_requests_that_run(exported, tmp_path):
    push(exported, 1, tmp_path)
    flags = with_parameters(tmp_path, "batch_timeout_micros { value: 1500000 }")  # a request takes 1.5 s
    with ThreadPoolExecutor(2) as pool:
        with serving(tmp_path, **flags) as (grpc_port, rest_port):
            running = [
                pool.submit(asked, connect(address, "m"))
                for address in (f"grpc://localhost:{grpc_port}", f"http://localhost:{rest_port}")
            ]
            time.sleep(0.6)
        assert [future.result() for future in running] == [2.5, 2.5]
    with pytest.raises(RequestFailed, match="UNAVAILABLE"):
        asked(connect(f"grpc://localhost:{grpc_port}", "m", 1))


def test_a_deadline_ends_the_wait(exported, tmp_path):
    push(exported, 1, tmp_path)
    flags = with_parameters(tmp_path, "batch_timeout_micros { value: 3000000 }")
    with serving(tmp_path, rest_api_timeout_in_ms=200, **flags) as (grpc_port, rest_port):
        with pytest.raises(RequestFailed, match="DEADLINE_EXCEEDED"):
            asked(connect(f"grpc://localhost:{grpc_port}", "m", timeout=0.3))
        response = httpx.post(f"http://localhost:{rest_port}/v1/models/m:predict", json={"instances": [1.0]})
        assert response.status_code == 504 and "deadline" in response.json()["error"]


def test_the_command_serves_until_it_is_told_to_end(exported, tmp_path):
    push(exported, 1, tmp_path)
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--port=-1", "--rest_api_port=-1", "--model_name=m"]
    process = subprocess.Popen(
        [*command, f"--model_base_path={tmp_path}", "--enable_batching"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        grpc_port, rest_port = (int(part.split(" on ")[1].strip(".\n")) for part in line.split(": ")[1].split(","))
        assert asked(connect(f"grpc://localhost:{grpc_port}", "m")) == 2.5
        assert asked(connect(f"http://localhost:{rest_port}", "m")) == 2.5
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in errors.splitlines() if line.startswith('{"time"')]
    assert events == ["available", "draining", "stopped"]


def test_the_page_counts_examples_that_were_asked_over_rest(tmp_path):
    write_half_plus_two(tmp_path / "1")
    config = tmp_path / "monitoring.config"
    config.write_text("prometheus_config { enable: true }")
    with serving(tmp_path, monitoring_config_file=str(config)) as (_, rest_port):
        url = f"http://localhost:{rest_port}"
        body = {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}]}
        assert httpx.post(f"{url}/v1/models/m:regress", json=body).json()["results"] == [2.5, 3.0, 3.5]
        page = httpx.get(f"{url}/monitoring/prometheus/metrics").text
        assert ':tensorflow:serving:request_example_counts_sum{model="m"} 3' in page
