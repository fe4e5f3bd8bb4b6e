"""What a Kubeflow endpoint is asked: a server of the same paths notes it down."""

import pytest

from pipeline.config import load_config
from pipeline.kubeflow.client import CREDENTIAL, schedule, submit
from pipeline.kubeflow.compiler import compile_pipeline
from schema.errors import HomefeedError, InputError
from tests.kubeflow_endpoint import kubeflow_endpoint

WHERE = {"experiment": "e", "namespace": "", "root": ""}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    out = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_pipeline(load_config(None), False, str(out))
    return str(out)


@pytest.fixture
def endpoint():
    with kubeflow_endpoint() as played:
        yield played


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
