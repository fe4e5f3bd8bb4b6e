"""The embedded server over the feed's own model: what it answers is what the model answers, over both protocols."""

from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from schema import names
from schema.saved_model import ServableModel
from serving.client import RequestFailed, connect
from serving.flags import Flags
from serving.server import running_server

USERS = np.array([b"U000003", b"somebody new"], object)
HISTORY = np.array([[b"P000001", b"P000017"], [b"P000002", b""]], object)


@pytest.fixture(scope="module")
def server(shop):
    with running_server(Flags(-1, rest_api_port=-1, model_name="homefeed", model_base_path=str(shop.base))) as ports:
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
    """`post(":predict", …)` on the model's path."""
    base = f"http://localhost:{server[1]}/v1/models/{names.MODEL_NAME}"
    with httpx.Client() as client:
        yield SimpleNamespace(post=lambda path, **body: client.post(base + path, **body))


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        (names.RECOMMEND, {names.USER_ID: USERS, names.HISTORY_ITEM_IDS: HISTORY, names.K: np.array([7, 3], np.int32)}),
        (names.SERVING_DEFAULT, {names.USER_ID: USERS}),
        (names.SERVING_DEFAULT, {names.USER_ID: USERS, names.HISTORY_ITEM_IDS: HISTORY}),
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
    assert signatures[names.SERVING_DEFAULT]["inputs"] == [names.HISTORY_ITEM_IDS, names.USER_ID]


def test_the_default_signature_is_recommend_in_short(model):
    ask = {names.USER_ID: USERS, names.HISTORY_ITEM_IDS: HISTORY}
    short, long = model(names.SERVING_DEFAULT, ask), model(names.RECOMMEND, ask)
    assert short.keys() == long.keys()
    assert all((short[name] == long[name]).all() for name in (names.ITEM_IDS, names.REASONS))


def test_rows_of_plain_json_are_enough(http):
    rows = [{"user_id": "U000003", "history_item_ids": []}, {"user_id": "nobody", "history_item_ids": []}]
    answers = http.post(":predict", json={"instances": rows}).json()["predictions"]
    assert len(answers) == 2 and answers[0]["item_ids"][0] and set(answers[1]["reasons"]) == {"popular"}
    encoded = [{"user_id": {"b64": "VTAwMDAwMw=="}, "history_item_ids": []}]
    again = http.post(":predict", json={"instances": encoded}).json()["predictions"]
    assert again[0]["item_ids"] == answers[0]["item_ids"]
    visit = [{"user_id": "", "history_item_ids": ["P000001", "P000017"]}]
    (seen,) = http.post(":predict", json={"instances": visit}).json()["predictions"]
    assert not {"P000001", "P000017"} & set(seen["item_ids"])


def test_rest_wants_every_input_as_tensorflow_serving_does(http):
    refused = http.post(":predict", json={"instances": [{"user_id": "U000003"}]})
    assert refused.status_code == 400
    assert "keys must be equal to: history_item_ids,user_id" in refused.json()["error"]


def test_nan_is_written_as_tensorflow_serving_writes_it(clients):
    answer = clients["rest"].predict(names.SCORE, {names.USER_ID: ["u"], names.ITEM_IDS: [["no such item"]]})
    assert np.isnan(answer[names.SCORES]).all()


def test_malformed_grpc_requests_are_invalid_arguments(clients):
    for signature, inputs, words in (
        (names.RECOMMEND, {names.K: [1]}, "not found in request and no default value provided"),
        (names.RECOMMEND, {names.USER_ID: [1]}, "expected string"),
        (names.RECOMMEND, {names.USER_ID: [["u"]]}, "expected shape"),
        (names.RECOMMEND, {names.USER_ID: ["u", "v"], names.HISTORY_ITEM_IDS: [["a"]] * 3}, "Incompatible shapes"),
    ):
        with pytest.raises(RequestFailed) as error:
            clients["grpc"].predict(signature, inputs)
        assert error.value.code == "INVALID_ARGUMENT"
        assert words in str(error.value)
