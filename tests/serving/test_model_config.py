"""Labels and the configuration of models, read anew while the server runs."""

import time

import pytest

from schema.errors import InputError
from serving.client import RequestFailed, connect
from serving.flags import Flags
from serving.messages import ModelServerConfig
from serving.model_config import model_config
from serving.server import running_server
from serving.versions import Policy
from tests.serving.running import asked, push, serving


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
