import os
import shutil
import time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from schema import names
from schema.errors import InputError
from schema.saved_model import ServableModel
from serving.client import RequestFailed, connect
from serving.model_config import ModelServerConfig, model_config
from serving.server import Flags, running_server
from serving.versions import Policy, VersionedModel

USERS = np.array([b"U000003", b"somebody new"], object)
HISTORY = np.array([[b"P000001", b"P000017"], [b"P000002", b""]], object)


@pytest.fixture(scope="module")
def server(shop):
    with running_server(Flags(model_base_path=str(shop.base), poll_seconds=0.2)) as ports:
        yield ports


@pytest.fixture(scope="module")
def clients(server):
    grpc_port, rest_port = server
    return {
        "grpc": connect(f"grpc://localhost:{grpc_port}", names.MODEL_NAME),
        "rest": connect(f"http://localhost:{rest_port}", names.MODEL_NAME),
    }


@pytest.fixture(scope="module")
def model(shop):
    return ServableModel(str(shop.version))


@pytest.fixture(scope="module")
def http(server):
    """`post(":predict", …)` and `get("/versions/1")` on the model's path."""
    base = f"http://localhost:{server[1]}/v1/models/{names.MODEL_NAME}"
    with httpx.Client() as client:
        yield SimpleNamespace(
            post=lambda path, **body: client.post(base + path, **body), get=lambda path: client.get(base + path)
        )


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        (names.RECOMMEND, {names.USER_ID: USERS, names.HISTORY_ITEM_IDS: HISTORY, names.K: np.array([7, 3], np.int32)}),
        (names.SERVING_DEFAULT, {names.USER_ID: USERS}),
        (names.SIMILAR_ITEMS, {names.ITEM_ID: np.array([b"P000001"], object)}),
        (names.SEARCH, {names.QUERY: np.array(["a warm blanket", "杯子"], object)}),
        (names.SCORE, {names.USER_ID: USERS, names.ITEM_IDS: HISTORY}),
        (names.EMBED_QUERY, {names.USER_ID: USERS}),
        (names.EMBED_ITEM, {names.ITEM_ID: np.array([b"P000001", b"x"], object)}),
    ],
)
def test_served_answers_equal_the_model_s_own(clients, model, protocol, signature, inputs):
    served, own = clients[protocol].predict(signature, inputs), model(signature, inputs)
    assert set(served) == set(own)
    for name, value in own.items():
        if value.dtype == object:
            assert (served[name] == value).all()
        else:
            np.testing.assert_allclose(served[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_status_and_metadata(clients, shop, protocol):
    assert clients[protocol].status() == {int(shop.version.name): "AVAILABLE"}
    signatures = clients[protocol].signatures()
    assert signatures[names.SIMILAR_ITEMS] == {
        "inputs": [names.ITEM_ID, names.K],
        "outputs": [names.ITEM_IDS, names.SCORES],
    }


def test_row_form_column_form_and_shorthand_say_the_same(http):
    row = {"user_id": "U000003", "k": 3}
    rows = http.post(":predict", json={"instances": [row, row]}).json()["predictions"]
    columns = http.post(":predict", json={"inputs": {"user_id": ["U000003"], "k": [3]}}).json()["outputs"]
    short = http.post(":predict", json={"instances": ["U000003"]}).json()["predictions"]
    # Scores may differ in the last bit: a batch of two is not summed up in the order of a batch of one.
    for row in rows:
        for name, column in columns.items():
            assert row[name] == (column[0] if name in ("item_ids", "reasons") else pytest.approx(column[0], rel=1e-5))
    assert short[0]["item_ids"][:3] == rows[0]["item_ids"]
    encoded = http.post(":predict", json={"instances": [{"user_id": {"b64": "VTAwMDAwMw=="}, "k": 3}]}).json()
    assert encoded["predictions"][0]["item_ids"] == rows[0]["item_ids"]
    single = http.post(":predict", json={"signature_name": "embed_item", "instances": ["P000001"]}).json()
    assert len(single["predictions"]) == 1 and isinstance(single["predictions"][0][0], float)


def test_nan_is_written_as_tensorflow_serving_writes_it(http):
    body = {"signature_name": "score", "instances": [{"user_id": "u", "item_ids": ["no such item"]}]}
    assert "NaN" in http.post(":predict", json=body).text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "JSON Parse error"),
        (b"[1]", "not object"),
        (b"{}", "instances"),
        (b'{"instances": []}', "not empty"),
        (b'{"instances": [{"user_id": 5}]}', "expected type: string"),
        (b'{"instances": [{"user_id": "u", "k": 1.5}]}', "expected type: int32"),
        (b'{"instances": [{"user_id": "u", "k": 99999999999}]}', "does not fit int32"),
        (b'{"instances": [{"user_id": "u"}, {"k": 3}]}', "different inputs"),
        (b'{"instances": [{"k": 3}]}', "missing: {user_id}"),
        (b'{"instances": [{"user_id": "u", "nonsense": 3}]}', "named input: nonsense"),
        (b'{"instances": [{"user_id": ["u"]}]}', "expected shape"),
        (b'{"inputs": {"user_id": ["u"], "history_item_ids": [["a"], ["b", "c"]]}}', "different lengths"),
        (b'{"inputs": {"user_id": ["u"], "history_item_ids": [["a"], "b"]}}', "different depths"),
        (b'{"signature_name": "none", "instances": ["u"]}', "none"),
        (b'{"instances": [{"user_id": {"b64": "?"}}]}', "base64"),
    ],
)
def test_malformed_rest_requests_get_one_sentence_and_the_server_goes_on(http, body, words):
    response = http.post(":predict", content=body)
    assert response.status_code == 400
    assert words in response.json()["error"]
    assert http.post(":predict", json={"instances": ["U000003"]}).status_code == 200


def test_unknown_models_and_versions_are_not_found(server, http):
    assert http.get("/versions/1").status_code == 404
    other = connect(f"http://localhost:{server[1]}", "other")
    with pytest.raises(RequestFailed, match=r"404.*Latest\(other\)"):
        other.predict(names.SEARCH, {names.QUERY: ["x"]})
    with pytest.raises(RequestFailed, match="NOT_FOUND"):
        connect(f"grpc://localhost:{server[0]}", "other").status()


def test_malformed_grpc_requests_are_invalid_arguments(clients):
    for signature, inputs, words in (
        ("none", {names.USER_ID: ["u"]}, "none"),
        (names.RECOMMEND, {names.K: [1]}, "missing"),
        (names.RECOMMEND, {names.USER_ID: [1]}, "expected string"),
        (names.RECOMMEND, {names.USER_ID: [["u"]]}, "expected shape"),
        (names.RECOMMEND, {names.USER_ID: ["u", "v"], names.HISTORY_ITEM_IDS: [["a"]] * 3}, "recommend"),
    ):
        with pytest.raises(RequestFailed) as error:
            clients["grpc"].predict(signature, inputs)
        assert error.value.code == "INVALID_ARGUMENT"
        assert words in str(error.value)


def test_a_server_that_is_away_is_unavailable():
    for address in ("grpc://localhost:9", "http://localhost:9"):
        with pytest.raises(RequestFailed, match="UNAVAILABLE"):
            connect(address, "m", timeout=2).status()
    with pytest.raises(ValueError, match="grpc://"):
        connect("localhost:1", "m")


def test_a_new_version_takes_over_and_a_broken_one_never_does(shop, tmp_path):
    shutil.copytree(shop.version, tmp_path / "1")
    with running_server(Flags("m", str(tmp_path), poll_seconds=0.1)) as (grpc_port, _):
        client = connect(f"grpc://localhost:{grpc_port}", "m")
        shutil.copytree(tmp_path / "1", tmp_path / ".partial")
        (tmp_path / ".partial" / "saved_model.pb").write_bytes(b"\x0a\xff broken")
        (tmp_path / ".partial").rename(tmp_path / "3")
        shutil.copytree(tmp_path / "1", tmp_path / ".partial")
        (tmp_path / ".partial").rename(tmp_path / "2")
        deadline = time.monotonic() + 60
        while client.status().get(2) != "AVAILABLE" and time.monotonic() < deadline:
            assert client.predict(names.EMBED_ITEM, {names.ITEM_ID: ["P000001"]})
            time.sleep(0.05)
        assert client.status() == {3: "END", 2: "AVAILABLE", 1: "END"}
        assert client.predict(names.EMBED_ITEM, {names.ITEM_ID: ["P000001"]})


def test_folders_and_ports_that_cannot_be_used_are_named(shop, tmp_path, server):
    with pytest.raises(InputError, match="no version"), running_server(Flags("m", str(tmp_path))):
        pass
    with pytest.raises(InputError, match="not a folder"), running_server(Flags("m", str(tmp_path / "none"))):
        pass
    grpc_port, rest_port = server
    with pytest.raises(InputError, match="--rest_api_port"), running_server(Flags("m", str(shop.base), 0, rest_port)):
        pass
    with pytest.raises(InputError, match="--port"), running_server(Flags("m", str(shop.base), grpc_port)):
        pass


def test_half_a_version_is_not_looked_at(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / ".staging").mkdir()
    model = VersionedModel("m", str(tmp_path))
    model.refresh()
    assert model._statuses == {}
    assert os.listdir(tmp_path / "7") == []


@pytest.fixture
def labelled(shop, tmp_path):
    """A server by a configuration file, of versions 1 and 2; gives its ports and a way to write another file."""
    for version in (1, 2):
        shutil.copytree(shop.version, tmp_path / "homefeed" / str(version))
    file = tmp_path / "models.config"

    def write(versions, labels):
        config = model_config(names.MODEL_NAME, str(tmp_path / "homefeed"), Policy(versions, labels))
        file.with_suffix(".new").write_text(str(ModelServerConfig(model_config_list={"config": [config]})))
        file.with_suffix(".new").rename(file)

    write((1,), {"stable": 1})
    with running_server(Flags(model_config_file=str(file), poll_seconds=0.1)) as ports:
        yield ports, write


ASKED = {names.ITEM_ID: ["P000001"]}


def reload_config(client, versions, labels, base):
    config = model_config(names.MODEL_NAME, base, Policy(versions, labels))
    client.reload(ModelServerConfig(model_config_list={"config": [config]}))


def test_versions_answer_by_label_over_both_protocols(labelled, tmp_path):
    (grpc_port, rest_port), _ = labelled
    client = connect(f"grpc://localhost:{grpc_port}", names.MODEL_NAME)
    assert client.status() == {1: "AVAILABLE"}
    base = str(tmp_path / "homefeed")
    with pytest.raises(RequestFailed, match=r"label canary to version 2 .* not currently available") as refused:
        reload_config(client, (1,), {"stable": 1, "canary": 2}, base)
    assert refused.value.code == "FAILED_PRECONDITION"
    reload_config(client, (1, 2), {"stable": 1, "canary": 2}, base)
    assert client.status() == {2: "AVAILABLE", 1: "AVAILABLE"}
    for address in (f"grpc://localhost:{grpc_port}", f"http://localhost:{rest_port}"):
        for label in ("stable", "canary"):
            assert connect(address, names.MODEL_NAME, label=label).predict(names.EMBED_ITEM, ASKED)
        with pytest.raises(RequestFailed, match="Unrecognized servable version label: previous") as error:
            connect(address, names.MODEL_NAME, label="previous").predict(names.EMBED_ITEM, ASKED)
        assert error.value.code in ("INVALID_ARGUMENT", "400")
    path = f"http://localhost:{rest_port}/v1/models/{names.MODEL_NAME}"
    metadata = [httpx.get(f"{path}/labels/{label}/metadata").json()["model_spec"]["version"] for label in LABELLED]
    assert metadata == ["1", "2"]
    reload_config(client, (2,), {"stable": 2}, base)
    assert client.status() == {2: "AVAILABLE", 1: "END"}


LABELLED = ("stable", "canary")


def test_a_changed_configuration_file_is_followed_and_a_broken_one_is_not(labelled, tmp_path):
    (grpc_port, _), write = labelled
    client = connect(f"grpc://localhost:{grpc_port}", names.MODEL_NAME)
    stable = connect(f"grpc://localhost:{grpc_port}", names.MODEL_NAME, label="stable")
    (tmp_path / "models.config").write_text("model_config_list { config {")
    time.sleep(0.5)
    assert client.status() == {1: "AVAILABLE"} and stable.predict(names.EMBED_ITEM, ASKED)
    write((2,), {"stable": 2})
    deadline = time.monotonic() + 60
    while client.status() != {2: "AVAILABLE", 1: "END"} and time.monotonic() < deadline:
        assert stable.predict(names.EMBED_ITEM, ASKED)
        time.sleep(0.05)
    assert client.status() == {2: "AVAILABLE", 1: "END"} and stable.predict(names.EMBED_ITEM, ASKED)
    write((7,), {"stable": 7})  # there is no such version: what is served goes on
    time.sleep(0.5)
    assert client.status()[2] == "AVAILABLE" and stable.predict(names.EMBED_ITEM, ASKED)


def test_configurations_that_cannot_be_served_are_named(shop, tmp_path):
    config = tmp_path / "models.config"
    for text, words in (
        ("", "0 models"),
        ("model_config_list {", "no model configuration"),
        ('model_config_list { config { name: "m" model_version_policy { all {} } } }', "newest version, or specific"),
        (
            'model_config_list { config { name: "m" base_path: "/none" version_labels { key: "stable" value: 1 } } }',
            "not currently available",
        ),
    ):
        config.write_text(text)
        with pytest.raises(InputError, match=words), running_server(Flags(model_config_file=str(config))):
            pass
    with pytest.raises(InputError, match="cannot be read"), running_server(Flags(model_config_file="/none")):
        pass
