"""How the embedded server is run: TLS, limits, health, logs, the end."""

import json
import logging
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest

from serving.client import RequestFailed, Tls, connect
from serving.health import HealthCheckRequest, HealthCheckResponse
from serving.logs import JsonLines
from tests.serving.certificates import certificates
from tests.serving.half_plus_two import write_half_plus_two
from tests.serving.running import asked, push, serving, with_parameters


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
