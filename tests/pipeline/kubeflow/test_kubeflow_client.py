"""What a Kubeflow endpoint is asked: a server of the same paths notes it down."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.config import load_config
from pipeline.kubeflow.client import CREDENTIAL, schedule, submit
from pipeline.kubeflow.compiler import compile_pipeline
from schema.errors import HomefeedError, InputError

WHERE = {"experiment": "e", "namespace": "", "root": ""}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    out = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_pipeline(load_config(None), False, str(out))
    return str(out)


@pytest.fixture
def endpoint():
    asked = []

    class Handler(BaseHTTPRequestHandler):
        refuses = False

        def do_GET(self):
            self._answer({})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, body, self.headers.get("authorization")))
            self._answer({"experiment_id": "e1", "run_id": "r1", "recurring_run_id": "j1"})

        def _answer(self, told):
            self.send_response(403 if Handler.refuses else 200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"error": "not for you"} if Handler.refuses else told).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}", asked, Handler
    server.shutdown()


def test_a_run_is_asked_for_with_its_parameters(endpoint, compiled, monkeypatch):
    host, asked, _ = endpoint
    monkeypatch.setenv(CREDENTIAL, "t0ken")
    assert submit(compiled, host, {"behaviors": "/data/b"}, "today", **WHERE) == "r1"
    path, body, token = asked[-1]
    assert path.endswith("/apis/v2beta1/runs") and token == "Bearer t0ken"
    assert body["display_name"] == "today"
    assert body["runtime_config"]["parameters"]["behaviors"] == "/data/b"
    assert body["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "homefeed"
    executors = body["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["Trainer_executor"]["pvcMount"]


def test_a_schedule_runs_one_at_a_time_and_makes_up_for_nothing(endpoint, compiled):
    host, asked, _ = endpoint
    assert schedule(compiled, host, {}, "daily", cron="0 30 3 * * *", **WHERE) == "j1"
    path, body, _ = asked[-1]
    assert path.endswith("/apis/v2beta1/recurringruns")
    assert body["trigger"]["cron_schedule"]["cron"] == "0 30 3 * * *"
    assert int(body["max_concurrency"]) == 1 and body["no_catchup"] is True


def test_what_the_endpoint_refuses_is_told(endpoint, compiled):
    host, _, handler = endpoint
    handler.refuses = True
    with pytest.raises(HomefeedError, match=r"refused \(403 .*not for you"):
        submit(compiled, host, {}, "today", **WHERE)


@pytest.mark.parametrize(
    ("parameters", "cron", "said"),
    [({"behaviours": "x"}, "0 0 4 * * *", "is no parameter of"), ({}, "0 4 * * *", "needs six fields")],
)
def test_wrong_arguments_ask_nobody(endpoint, compiled, parameters, cron, said):
    host, asked, _ = endpoint
    with pytest.raises(InputError, match=said):
        schedule(compiled, host, parameters, "daily", cron=cron, **WHERE)
    assert not asked


def test_an_endpoint_that_is_away_is_named(compiled):
    with pytest.raises(HomefeedError, match="http://localhost:1: does not answer"):
        submit(compiled, "http://localhost:1", {}, "today", **WHERE)


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("a: 1")
    with pytest.raises(InputError, match="holds no pipeline"):
        submit(str(file), "http://localhost:1", {}, "today", **WHERE)
    with pytest.raises(InputError, match=r"is no \.yaml file"):
        submit(str(tmp_path / "job.json"), "http://localhost:1", {}, "today", **WHERE)
