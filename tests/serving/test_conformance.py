"""The embedded server, and a real `tensorflow_model_server` where one is on PATH, against TensorFlow Serving's API."""

import json
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import NamedTuple

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.flags import Flags
from serving.server import running_server
from tests.serving.conformance import MODEL, REST_CASES, same_json
from tests.serving.half_plus_two import write_half_plus_two

STOCK = shutil.which("tensorflow_model_server")


class Server(NamedTuple):
    rest: str
    predictions: prediction_service_pb2_grpc.PredictionServiceStub
    models: model_service_pb2_grpc.ModelServiceStub
    config: str


def config_text(base, labels=True):
    entries = []
    for model in (MODEL, "three"):
        told = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
        policy = "model_version_policy { all {} }" if model == MODEL else ""
        entries.append(
            f'config {{ name: "{model}" base_path: "{base / model}" model_platform: "tensorflow" {policy} '
            f"{told if labels and model == MODEL else ''} }}"
        )
    return f"model_config_list {{ {' '.join(entries)} }}"


@contextmanager
def stock_server(config, base):
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    flags = [f"--port={ports[0]}", f"--rest_api_port={ports[1]}", f"--model_config_file={config}"]
    process = subprocess.Popen([STOCK, *flags, "--allow_version_labels_for_unavailable_models=true"])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://localhost:{ports[1]}/v1/models/{MODEL}").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield ports
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module", params=["embedded", *(["stock"] if STOCK else [])])
def server(request, tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    for version in ("1", "2"):
        write_half_plus_two(base / MODEL / version)
    write_half_plus_two(base / "three" / "1", plus=3.0)
    config = base / "models.config"
    config.write_text(config_text(base))
    flags = Flags(port=-1, rest_api_port=-1, model_config_file=str(config))
    running = running_server(flags) if request.param == "embedded" else stock_server(config, base)
    with running as (grpc_port, rest_port), grpc.insecure_channel(f"localhost:{grpc_port}") as channel:
        yield Server(
            f"http://localhost:{rest_port}",
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
            config_text(base),
        )


@pytest.mark.parametrize("case", REST_CASES, ids=str)
def test_rest(server, case):
    body = case.body if isinstance(case.body, str | None) else json.dumps(case.body)
    response = httpx.request(case.method, server.rest + case.path, content=body)
    assert response.status_code == case.status, response.text
    assert response.headers["content-type"].startswith("application/json")
    if case.words:
        assert response.text.startswith('{\n    "error": "') and list(response.json()) == ["error"]
        assert case.words in response.json()["error"]
    elif isinstance(case.answer, str):
        assert case.answer in response.text
    else:
        assert same_json(response.json(), case.answer), response.text


def test_rest_metadata_tells_every_signature(server):
    for path, version in (("", "2"), ("/versions/1", "1"), ("/labels/stable", "1")):
        told = httpx.get(f"{server.rest}/v1/models/{MODEL}{path}/metadata").json()
        assert told["model_spec"] == {"name": MODEL, "signature_name": "", "version": version}
        default = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert default["inputs"]["x"]["dtype"] == "DT_FLOAT" and default["method_name"] == "tensorflow/serving/predict"


def test_paths_outside_of_the_api_are_not_found(server):
    assert httpx.get(f"{server.rest}/other").status_code == 404


# --- gRPC -------------------------------------------------------------------------------------------------------------


def spec_of(request, model=MODEL, signature="", version=None, label=""):
    if model is not None:
        request.model_spec.name = model
    if signature:
        request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    return request


def predict(inputs, outputs=(), **spec):
    request = spec_of(predict_pb2.PredictRequest(), **spec)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    request.output_filter.extend(outputs)
    return request


def floats(*values):
    return np.array(values, np.float32)


def with_examples(request, *xs, context=None, key="x"):
    into = request.input.example_list if context is None else request.input.example_list_with_context
    if context is not None:
        into.context.features.feature["x"].float_list.value.append(context)
    for x in xs:
        into.examples.add().features.feature[key].float_list.value.append(x)
    return request


def regression(*xs, context=None, key="x", **spec):
    return with_examples(spec_of(regression_pb2.RegressionRequest(), **spec), *xs, context=context, key=key)


def classification(*xs, context=None, key="x", **spec):
    return with_examples(spec_of(classification_pb2.ClassificationRequest(), **spec), *xs, context=context, key=key)


def inference(*tasks, xs=(1.0,), model=MODEL):
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = model, signature
    return with_examples(request, *xs)


DTYPES = {
    "float": np.float32, "double": np.float64, "int32": np.int32, "int64": np.int64, "int16": np.int16,
    "int8": np.int8, "uint8": np.uint8, "uint32": np.uint32, "uint64": np.uint64, "bool": np.bool_, "half": np.float16,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [*DTYPES, "string"])
def test_predict_takes_and_gives_every_dtype(server, dtype):
    value = np.array([b"a", b"\xff\x00", b""], object) if dtype == "string" else np.array([0, 1, 1], DTYPES[dtype])
    response = server.predictions.Predict(predict({"value": value}, signature=f"echo_{dtype}"))
    found = tf.make_ndarray(response.outputs["value"])
    assert found.tolist() == value.tolist()
    assert found.dtype == (np.float32 if dtype == "half" else value.dtype)


@pytest.mark.parametrize(
    ("spec", "version", "y"),
    [
        ({}, 2, 2.5),
        ({"signature": "serving_default"}, 2, 2.5),
        ({"version": 1}, 1, 2.5),
        ({"label": "stable"}, 1, 2.5),
        ({"label": "canary"}, 2, 2.5),
        ({"model": "three"}, 1, 3.5),
    ],
)
def test_predict_answers_for_versions_and_labels(server, spec, version, y):
    response = server.predictions.Predict(predict({"x": floats(1)}, **spec))
    assert response.model_spec.version.value == version
    assert response.model_spec.name == spec.get("model", MODEL)
    assert response.model_spec.signature_name == "serving_default"
    assert response.outputs["y"].float_val == [y]


def test_predict_gives_only_the_outputs_that_are_wanted(server):
    ask = {"x": floats(1), "text": np.array([b"a"], object)}
    assert set(server.predictions.Predict(predict(ask, signature="two")).outputs) == {"y", "text"}
    assert set(server.predictions.Predict(predict(ask, ["y"], signature="two")).outputs) == {"y"}


X = {"x": floats(1)}
REGRESS, CLASSIFY = ("regress_x_to_y", "regress"), ("classify_x_to_y", "classify")
REFUSED = [
    ("no model spec", "Predict", predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("no model name", "Predict", predict(X, model=None, version=1), "INVALID_ARGUMENT", "no name specified"),
    ("an unknown model", "Predict", predict(X, model="none"), "NOT_FOUND", "Latest(none)"),
    ("an unknown version", "Predict", predict(X, version=9), "NOT_FOUND", f"Specific({MODEL}, 9)"),
    ("an unknown label", "Predict", predict(X, label="none"), "INVALID_ARGUMENT", "version label: none"),
    ("an unknown signature", "Predict", predict(X, signature="none"), "FAILED_PRECONDITION", '"none" not found'),
    ("no inputs", "Predict", predict({}), "INVALID_ARGUMENT", "Missing but required: {x}"),
    ("another input", "Predict", predict({"z": floats(1)}), "INVALID_ARGUMENT", "x"),
    ("one input too many", "Predict", predict({**X, "z": floats(1)}), "INVALID_ARGUMENT", "Sent extra: {z}"),
    ("a wrong dtype", "Predict", predict({"x": np.array([1], np.int32)}), "INVALID_ARGUMENT", ""),
    ("a string for a number", "Predict", predict({"x": np.array([b"1"], object)}), "INVALID_ARGUMENT", ""),
    ("a wrong rank", "Predict", predict({"x": floats([1])}), "INVALID_ARGUMENT", "shape"),
    ("an unknown output", "Predict", predict(X, ["z"]), "INVALID_ARGUMENT", "alias not found in signature: z"),
    ("an output twice", "Predict", predict(X, ["y", "y"]), "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
    ("what fails", "Predict", predict({"value": floats(0)}, signature="fails"), "INVALID_ARGUMENT", "not a number"),
    ("regress: no spec", "Regress", regression_pb2.RegressionRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("regress: no input", "Regress", regression(signature="regress_x_to_y"), "INVALID_ARGUMENT", "Input is empty"),
    ("regress: signature", "Regress", regression(1, signature="none"), "INVALID_ARGUMENT", "with the name: none"),
    ("regress: default", "Regress", regression(1), "INVALID_ARGUMENT", "No regression inputs"),
    ("regress: inputs", "Regress", regression(1, signature="two"), "INVALID_ARGUMENT", "Expected one input Tensor."),
    ("regress: outputs", "Regress", regression(1, signature="classify_labels"), "INVALID_ARGUMENT", "one output"),
    ("regress: shape", "Regress", regression(1, signature="regress_wide"), "INVALID_ARGUMENT", "[batch_size, 1]"),
    ("regress: feature", "Regress", regression(1, signature="regress_x_to_y", key="z"), "INVALID_ARGUMENT", "x"),
    ("regress: model", "Regress", regression(1, model="none"), "NOT_FOUND", "Latest(none)"),
    ("classify: no input", "Classify", classification(signature="classify_x_to_y"), "INVALID_ARGUMENT", "is empty"),
    ("classify: signature", "Classify", classification(1, signature="none"), "INVALID_ARGUMENT", "name: none"),
    (
        "classify: outputs",
        "Classify",
        classification(1, signature="regress_x_to_y"),
        "INVALID_ARGUMENT",
        "at least one",
    ),
    ("classify: inputs", "Classify", classification(1, signature="two"), "INVALID_ARGUMENT", "Expected one input"),
    ("classify: version", "Classify", classification(1, version=9), "NOT_FOUND", f"Specific({MODEL}, 9)"),
    ("multi: a task twice", "MultiInference", inference(REGRESS, REGRESS), "INVALID_ARGUMENT", "Duplicate evaluation"),
    ("multi: model", "MultiInference", inference(REGRESS, model=""), "INVALID_ARGUMENT", "empty model name"),
    (
        "multi: signature",
        "MultiInference",
        inference(("none", "regress")),
        "INVALID_ARGUMENT",
        "not found in model graph",
    ),
    ("multi: method", "MultiInference", inference(("regress_x_to_y", "predict")), "UNIMPLEMENTED", "method_name"),
    ("multi: no input", "MultiInference", inference(REGRESS, xs=()), "INVALID_ARGUMENT", "Input is empty"),
]


@pytest.mark.parametrize(("method", "request_", "code", "words"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_grpc_refuses(server, method, request_, code, words):
    with pytest.raises(grpc.RpcError) as error:
        getattr(server.predictions, method)(request_)
    assert error.value.code().name == code, error.value.details()
    assert words in error.value.details()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (regression(1, 2, signature="regress_x_to_y"), [2.5, 3.0]),
        (regression(1, signature="regress_x_to_y2"), [3.5]),
        (regression(1, signature="regress_x2_to_y3", context=0.0), [3.0]),
        (regression(9, signature="regress_x_to_y", context=4.0, key="x2"), [4.0]),
    ],
)
def test_regress(server, asked, expected):
    response = server.predictions.Regress(asked)
    assert [r.value for r in response.result.regressions] == expected
    assert response.model_spec.signature_name == asked.model_spec.signature_name
    assert response.model_spec.version.value == 2


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (classification(1, 2, signature="classify_x_to_y"), [[("", 2.5)], [("", 3.0)]]),
        (classification(1, signature="classify_labels"), [[("2.5", 2.5), ("3.5", 3.5)]]),
        (classification(9, signature="classify_x_to_y", context=4.0, key="x2"), [[("", 4.0)]]),
    ],
)
def test_classify(server, asked, expected):
    response = server.predictions.Classify(asked)
    assert [[(c.label, c.score) for c in row.classes] for row in response.result.classifications] == expected
    assert response.model_spec.version.value == 2


def test_multi_inference_answers_in_the_order_of_its_tasks(server):
    response = server.predictions.MultiInference(
        inference(REGRESS, CLASSIFY, ("regress_x_to_y2", "regress"), xs=(2.0,))
    )
    regressed, classified, other = response.results
    assert regressed.regression_result.regressions[0].value == 3.0
    assert classified.classification_result.classifications[0].classes[0].score == 3.0
    assert other.regression_result.regressions[0].value == 4.0
    assert [r.model_spec.signature_name for r in response.results] == [
        "regress_x_to_y",
        "classify_x_to_y",
        "regress_x_to_y2",
    ]
    assert {r.model_spec.version.value for r in response.results} == {2}


def metadata(*fields, **spec):
    return spec_of(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=list(fields)), **spec)


def test_metadata(server):
    for spec, version in (({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1)):
        response = server.predictions.GetModelMetadata(metadata("signature_def", **spec))
        assert (response.model_spec.name, response.model_spec.version.value) == (MODEL, version)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        assert definitions.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (get_model_metadata_pb2.GetModelMetadataRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (metadata(), "INVALID_ARGUMENT", "must specify at least one metadata_field"),
        (metadata("other"), "INVALID_ARGUMENT", "Metadata field other is not supported"),
        (metadata("signature_def", model="none"), "NOT_FOUND", "Latest(none)"),
        (metadata("signature_def", version=9), "NOT_FOUND", f"Specific({MODEL}, 9)"),
    ],
)
def test_what_metadata_refuses(server, asked, code, words):
    with pytest.raises(grpc.RpcError) as error:
        server.predictions.GetModelMetadata(asked)
    assert error.value.code().name == code and words in error.value.details()


def test_status(server):
    response = server.models.GetModelStatus(spec_of(get_model_status_pb2.GetModelStatusRequest()))
    states = [(s.version, s.state, s.status.error_code) for s in response.model_version_status]
    assert states == [(2, 30, 0), (1, 30, 0)]
    one = server.models.GetModelStatus(spec_of(get_model_status_pb2.GetModelStatusRequest(), version=1))
    assert [s.version for s in one.model_version_status] == [1]


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        (None, "INVALID_ARGUMENT", "Missing ModelSpec"),
        ({"model": "none"}, "NOT_FOUND", "Could not find any versions of model none"),
        ({"version": 9}, "NOT_FOUND", f"Could not find version 9 of model {MODEL}"),
    ],
)
def test_what_status_refuses(server, spec, code, words):
    request = get_model_status_pb2.GetModelStatusRequest()
    with pytest.raises(grpc.RpcError) as error:
        server.models.GetModelStatus(request if spec is None else spec_of(request, **spec))
    assert error.value.code().name == code and words in error.value.details()


def reloading(text):
    return text_format.Parse(f"config {{ {text} }}", model_management_pb2.ReloadConfigRequest())


def test_reloading_the_same_configuration_changes_nothing(server):
    server.models.HandleReloadConfigRequest(reloading(server.config))
    response = server.models.GetModelStatus(spec_of(get_model_status_pb2.GetModelStatusRequest()))
    assert [s.state for s in response.model_version_status] == [30, 30]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "INVALID_ARGUMENT", "Only ModelConfigList is currently supported"),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" } '
            'config { name: "a" base_path: "/a" model_platform: "tensorflow" } }',
            "INVALID_ARGUMENT",
            "Illegal to list model a multiple times in config list",
        ),
        (
            'model_config_list { config { name: "a" base_path: "a" model_platform: "tensorflow" } }',
            "INVALID_ARGUMENT",
            "Expected model a to have an absolute path or URI; got base_path()=a",
        ),
        ('model_config_list { config { name: "a" base_path: "/a" } }', "INVALID_ARGUMENT", "Illegal setting neither"),
    ],
)
def test_what_reloading_refuses(server, text, code, words):
    with pytest.raises(grpc.RpcError) as error:
        server.models.HandleReloadConfigRequest(reloading(text))
    assert error.value.code().name == code and words in error.value.details()
    assert server.predictions.Predict(predict(X)).outputs["y"].float_val == [2.5]
