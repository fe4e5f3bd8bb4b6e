import json

import pytest
from google.protobuf import json_format
from tfx.proto import pusher_pb2
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelBlessing, PushedModel

from components import atomic_pusher
from components.atomic_pusher import AtomicPusherExecutor, next_version
from schema.fingerprints import fingerprint_of


@pytest.fixture
def push(tmp_path):
    def run(blessed=1, infra_blessed=1):
        model, blessing, infra, pushed = Model(), ModelBlessing(), InfraBlessing(), PushedModel()
        model.uri, pushed.uri = str(tmp_path / "model"), str(tmp_path / "pushed")
        folder = tmp_path / "model" / "Format-Serving"
        (folder / "variables").mkdir(parents=True, exist_ok=True)
        (folder / "saved_model.pb").write_text("graph")
        (folder / "variables" / "variables.index").write_text("weights")
        blessing.uri = infra.uri = str(tmp_path)
        blessing.set_int_custom_property("blessed", blessed)
        infra.set_int_custom_property("blessed", infra_blessed)
        (tmp_path / ("BLESSED" if blessed else "NOT_BLESSED")).touch()
        (tmp_path / ("INFRA_BLESSED" if infra_blessed else "INFRA_NOT_BLESSED")).touch()
        destination = pusher_pb2.PushDestination()
        destination.filesystem.base_directory = str(tmp_path / "serving")
        AtomicPusherExecutor().Do(
            {"model": [model], "model_blessing": [blessing], "infra_blessing": [infra]},
            {"pushed_model": [pushed]},
            {"push_destination": json.dumps(json_format.MessageToDict(destination, preserving_proto_field_name=True))},
        )
        return pushed

    return run


def test_a_blessed_model_is_pushed_whole_and_versions_grow(push, tmp_path):
    first, second = push(), push()
    versions = sorted(int(p.name) for p in (tmp_path / "serving").iterdir())
    assert len(versions) == 2 and versions[1] > versions[0]
    assert first.get_string_custom_property("pushed_version") == str(versions[0])
    assert second.get_string_custom_property("pushed_destination") == str(tmp_path / "serving" / str(versions[1]))
    for version in versions:
        assert (tmp_path / "serving" / str(version) / "saved_model.pb").read_text() == "graph"
        assert (tmp_path / "serving" / str(version) / "variables" / "variables.index").read_text() == "weights"


@pytest.mark.parametrize("blessings", [{"blessed": 0}, {"infra_blessed": 0}])
def test_a_model_that_one_gate_refused_is_not_pushed(push, tmp_path, blessings):
    assert push(**blessings).get_int_custom_property("pushed") == 0
    assert not (tmp_path / "serving").exists()


def test_a_push_that_breaks_off_leaves_no_version_and_the_next_one_succeeds(push, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic_pusher.fileio, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            push()
    assert not [p for p in (tmp_path / "serving").iterdir() if p.name.isdecimal()]
    push()
    assert len([p for p in (tmp_path / "serving").iterdir() if p.name.isdecimal()]) == 1


def test_the_next_version_is_later_than_any_there_is(tmp_path):
    (tmp_path / "99999999999").mkdir()
    (tmp_path / "notes").mkdir()
    assert next_version(str(tmp_path)) == 100000000000


def test_warm_up_requests_are_pushed_along_and_the_push_is_fingerprinted(push, tmp_path):
    (tmp_path / "tf_serving_warmup_requests").write_text("requests")
    pushed = push()
    version = tmp_path / "serving" / pushed.get_string_custom_property("pushed_version")
    assert (version / "assets.extra" / "tf_serving_warmup_requests").read_text() == "requests"
    assert pushed.get_string_custom_property("fingerprint") == fingerprint_of(version)
    assert fingerprint_of(tmp_path / "pushed") == fingerprint_of(version)
    (version / "saved_model.pb").write_text("grapf")
    assert pushed.get_string_custom_property("fingerprint") != fingerprint_of(version)
