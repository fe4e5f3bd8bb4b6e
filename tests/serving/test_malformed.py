"""500 malformed requests, made from valid ones: each gets an error in the API's form, and the server goes on."""

import copy
import json
import random

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, regression_pb2

from serving.flags import Flags
from serving.server import running_server
from tests.serving.half_plus_two import write_half_plus_two

COUNT = 250  # of each protocol
VALID = [
    (":predict", {"instances": [1.0, 2.0]}),
    (":predict", {"inputs": {"x": [1.0, 2.0]}}),
    (":predict", {"signature_name": "two", "instances": [{"x": 1.0, "text": "a"}, {"x": 2.0, "text": "b"}]}),
    (":predict", {"signature_name": "matrix", "inputs": [[1.0, 2.0], [3.0, 4.0]]}),
    (":predict", {"signature_name": "echo_bytes", "instances": [{"b64": "YWJj"}]}),
    (":predict", {"signature_name": "echo_int64", "inputs": {"value": [1, 2, 3]}}),
    (":regress", {"signature_name": "regress_x_to_y", "context": {"x": 1.0}, "examples": [{"x2": [1.0]}]}),
    (":classify", {"signature_name": "classify_labels", "examples": [{"x": 1.0}, {"x": 2.0}]}),
]
ODD = [
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    "a",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    {"b64": 1},
    {"b64": "%"},
    [1, "a"],
    "x" * 5000,
]


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    base = tmp_path_factory.mktemp("fuzz")
    write_half_plus_two(base / "1")
    with running_server(Flags(-1, rest_api_port=-1, model_name="m", model_base_path=str(base))) as found:
        yield found


def places(value, path=()):
    """Paths to everything in a JSON value."""
    found = [path] if path else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in pairs:
        found += places(part, (*path, key))
    return found


def spoiled(body, dice):
    """A valid body's bytes, spoiled in one way."""
    way = dice.randrange(6)
    text = json.dumps(body).encode()
    if way == 0:
        return text[: dice.randrange(len(text))]
    if way == 1:
        at = dice.randrange(len(text))
        return text[:at] + bytes([dice.randrange(256)]) + text[at + 1 :]
    if way == 2:
        depth = dice.choice([5, 500, 100_000])
        return b'{"instances": ' + b"[" * depth + b"1" + b"]" * dice.choice([0, depth]) + b"}"
    body = copy.deepcopy(body)
    *parents, last = dice.choice(places(body))
    parent = body
    for key in parents:
        parent = parent[key]
    if way == 3:
        del parent[last]
    elif way == 4:
        parent[last] = dice.choice(ODD)
    elif isinstance(parent, dict):
        parent[dice.choice(["z", "", "é", "instances", "b64"])] = parent.pop(last)
    else:
        parent.append(dice.choice(ODD))
    return json.dumps(body).encode()


def test_malformed_rest_requests(ports):
    dice, refused = random.Random(1), 0
    url = f"http://localhost:{ports[1]}/v1/models/m"
    with httpx.Client(timeout=30) as client:
        while refused < COUNT:
            path, body = dice.choice(VALID)
            request = spoiled(body, dice)
            response = client.post(url + path, content=request)
            if response.status_code == 200:  # spoiled, and valid all the same
                json.loads(response.text)
                continue
            assert response.status_code in (400, 501), (response.status_code, request[:200], response.text)
            assert list(response.json()) == ["error"] and response.json()["error"], request
            refused += 1
            if refused % 10 == 0:
                answer = client.post(f"{url}:predict", json={"instances": [1.0]})
                assert answer.json() == {"predictions": [2.5]}


def spoiled_message(valid, dice):
    """A valid message's bytes, spoiled in one way."""
    way, data = dice.randrange(4), bytearray(valid.SerializeToString())
    if way == 0:
        return bytes(data[: dice.randrange(1, len(data))])
    if way == 1:
        data[dice.randrange(len(data))] = dice.randrange(256)
        return bytes(data)
    if way == 2:
        return bytes(dice.randrange(256) for _ in range(dice.randrange(1, 60)))
    message = copy.deepcopy(valid)
    if isinstance(message, regression_pb2.RegressionRequest):
        message.input.example_list.examples.add().features.feature["x"].bytes_list.value.append(b"a")
        return message.SerializeToString()
    tensor = message.inputs[dice.choice(list(message.inputs))]
    tensor.dtype = dice.choice([0, 1, 3, 7, 9, 14, 20, 22, 100, 101])
    tensor.tensor_shape.dim.add(size=dice.choice([-1, 0, 7, 2**40]))
    tensor.tensor_content = bytes(dice.randrange(20))
    return message.SerializeToString()


def test_malformed_grpc_requests(ports):
    dice, refused = random.Random(2), 0
    predict = predict_pb2.PredictRequest()
    predict.model_spec.name = "m"
    predict.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([1, 2], np.float32)))
    text = copy.deepcopy(predict)
    text.model_spec.signature_name = "two"
    text.inputs["text"].CopyFrom(tf.make_tensor_proto([b"a", b"b"]))
    regress = regression_pb2.RegressionRequest()
    regress.model_spec.name, regress.model_spec.signature_name = "m", "regress_x_to_y"
    regress.input.example_list.examples.add().features.feature["x"].float_list.value.append(1.0)
    with grpc.insecure_channel(f"localhost:{ports[0]}") as channel:
        calls = {
            method: channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
            for method in ("Predict", "Regress")
        }
        while refused < COUNT:
            method, valid = dice.choice([("Predict", predict), ("Predict", text), ("Regress", regress)])
            request = spoiled_message(valid, dice)
            try:
                calls[method](request, timeout=30)
            except grpc.RpcError as error:
                code = error.code()
                assert code.name in ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "INTERNAL"), (
                    code,
                    error.details(),
                    request,
                )
                if code == grpc.StatusCode.INTERNAL:  # only for bytes that are no message
                    assert "deserializing" in error.details(), (error.details(), request)
                refused += 1
                if refused % 10 == 0:
                    answer = predict_pb2.PredictResponse.FromString(calls["Predict"](predict.SerializeToString()))
                    assert list(answer.outputs["y"].float_val) == [2.5, 3.0]
