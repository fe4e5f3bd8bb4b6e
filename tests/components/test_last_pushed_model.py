"""The last pushed model, where there is one."""

import pytest
from tfx.types.standard_artifacts import Model
from tfx.utils import path_utils

from components import last_pushed_model
from components.last_pushed_model import LastPushedModel, is_missing


@pytest.fixture(autouse=True)
def comparable(monkeypatch):
    answer = {"is": True}
    monkeypatch.setattr(last_pushed_model, "can_be_compared", lambda _: answer["is"])
    return answer


def found(tmp_path, candidate=None):
    model = Model()
    model.uri = str(tmp_path / "out")
    step = LastPushedModel.EXECUTOR_SPEC.executor_class
    inputs = {} if candidate is None else {"candidate": [candidate]}
    step().Do(inputs, {"model": [model]}, {"folder": str(tmp_path / "models"), "code_version": ""})
    return model


def push(tmp_path, *versions):
    for version in versions:
        folder = tmp_path / "models" / str(version)
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").write_text(str(version))


def test_before_the_first_push_there_is_none(tmp_path):
    assert is_missing(found(tmp_path))
    (tmp_path / "models" / ".staging").mkdir(parents=True)
    assert is_missing(found(tmp_path))


def test_the_newest_version_is_taken_by_its_number(tmp_path):
    push(tmp_path, 9, 10)
    model = found(tmp_path)
    assert not is_missing(model) and model.get_string_custom_property("pushed_version") == "10"
    with open(f"{path_utils.serving_model_path(model.uri)}/saved_model.pb") as file:
        assert file.read() == "10"


def test_what_cannot_be_compared_is_as_if_it_were_not_there(tmp_path, comparable):
    push(tmp_path, 1)
    comparable["is"] = False
    assert is_missing(found(tmp_path, Model())) and not is_missing(found(tmp_path))


def test_other_models_are_there():
    assert not is_missing(Model())
