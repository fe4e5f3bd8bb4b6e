"""Releases without a model: what is on disk, whoever is killed when."""

import json
import multiprocessing
import os
import shutil
import signal
from itertools import pairwise

import filelock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema.errors import GateRefused, HomefeedError, InputError
from serving import releases as module
from serving.model_config import only_model, policy_of, read_config
from serving.releases import CANARY, PREVIOUS, STABLE, Releases, promoted, rolled_back

# Copies of a process that has not used gRPC: one that has may crash as it is forked.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["hypothesis", "pytest", "serving.releases"])


@pytest.fixture
def folder(tmp_path):
    for version in (1, 2, 3, 4):
        (tmp_path / "homefeed" / str(version)).mkdir(parents=True)
        (tmp_path / "homefeed" / str(version) / "saved_model.pb").touch()
    return tmp_path


@pytest.fixture
def releases(folder):
    return Releases(folder)


def test_a_canary_becomes_stable_and_stable_becomes_previous(releases):
    assert releases.labels() == {} and releases.entries() == []
    releases.release(1, STABLE, "first", who="ann")
    releases.release(2, CANARY, "try")
    assert releases.labels() == {STABLE: 1, CANARY: 2}
    releases.release(2, STABLE, "good")
    assert releases.labels() == {STABLE: 2, PREVIOUS: 1}
    first, *_, last = releases.entries()
    assert (first.number, first.who, first.why, first.before, first.after) == (1, "ann", "first", {}, {STABLE: 1})
    assert (last.number, last.before, last.after) == (3, {STABLE: 1, CANARY: 2}, {STABLE: 2, PREVIOUS: 1})
    assert last.who and last.when.endswith("+00:00")


def test_the_file_is_tensorflow_serving_s(releases, folder):
    releases.release(1, STABLE, "")
    releases.release(3, CANARY, "")
    config = only_model(read_config(str(folder / "models.config")))
    assert (config.name, config.base_path, config.model_platform) == (
        "homefeed",
        str(folder / "homefeed"),
        "tensorflow",
    )
    assert list(config.model_version_policy.specific.versions) == [1, 3]
    assert dict(config.version_labels) == {STABLE: 1, CANARY: 3}


def test_a_rollback_goes_one_release_back_at_a_time_and_never_to_what_was_left(releases):
    for version in (1, 2, 3):
        releases.release(version, STABLE, "")
    releases.release(4, CANARY, "")
    releases.rollback("clicks fell")
    assert releases.labels() == {STABLE: 2, PREVIOUS: 1, CANARY: 4}
    releases.rollback("again")
    assert releases.labels() == {STABLE: 1, CANARY: 4}
    with pytest.raises(InputError, match="no previous version"):
        releases.rollback("")
    releases.release(3, STABLE, "mended")
    releases.rollback("not mended")
    assert releases.labels() == {STABLE: 1, CANARY: 4}
    assert [entry.action for entry in releases.entries()] == [
        *["release"] * 4,
        *["rollback"] * 2,
        "release",
        "rollback",
    ]


def test_a_canary_can_be_withdrawn(releases):
    with pytest.raises(InputError, match="no version is canary"):
        releases.withdraw("")
    releases.release(1, STABLE, "")
    releases.release(2, CANARY, "")
    releases.withdraw("slow")
    assert releases.labels() == {STABLE: 1}


def test_what_cannot_be_released_is_named_and_changes_nothing(releases, folder):
    releases.release(1, STABLE, "")
    before = (folder / "models.config").read_bytes()
    with pytest.raises(InputError, match="stable already"):
        releases.release(1, STABLE, "")
    with pytest.raises(InputError, match="no version 9"):
        releases.release(9, STABLE, "")
    with pytest.raises(GateRefused, match="version 2 is not released: recall fell"):
        releases.release(2, STABLE, "", refusals=lambda _: ["recall fell"])
    with pytest.raises(InputError, match="over gRPC"):
        releases.release(2, STABLE, "", addresses=["http://localhost:1"])
    with pytest.raises(HomefeedError, match="UNAVAILABLE"):
        releases.release(2, STABLE, "", addresses=["grpc://localhost:9"])
    releases.release(2, STABLE, "")
    shutil.rmtree(folder / "homefeed" / "1")
    after = (folder / "models.config").read_bytes()
    with pytest.raises(InputError, match="no version 1"):
        releases.rollback("")
    assert before != after == (folder / "models.config").read_bytes()
    (folder / "models.config").write_text('model_config_list { config { name: "mine" } }')
    with pytest.raises(InputError, match="was not written by `homefeed release`"):
        releases.release(3, STABLE, "")


def test_of_two_at_once_one_is_told(releases, folder):
    with filelock.FileLock(folder / ".release.lock"), pytest.raises(HomefeedError, match="another release"):
        releases.release(1, STABLE, "")
    assert releases.labels() == {}


def _race(folder, version, results):
    try:
        Releases(folder).release(version, STABLE, "")
        results.put((version, "done"))
    except HomefeedError as error:
        results.put((version, str(error)))


def test_releases_of_many_processes_leave_one_history(folder):
    results = PROCESSES.Queue()
    racers = [PROCESSES.Process(target=_race, args=(folder, version, results)) for version in (1, 2, 3, 4)]
    for racer in racers:
        racer.start()
    told = dict(results.get(timeout=30) for _ in racers)
    for racer in racers:
        racer.join(30)
    done = [version for version, words in told.items() if words == "done"]
    assert done and all(words == "done" or "another release" in words for words in told.values())
    entries = Releases(folder).entries()
    assert sorted(entry.after[STABLE] for entry in entries) == sorted(done)
    assert [entry.number for entry in entries] == list(range(1, len(done) + 1))
    for earlier, later in pairwise(entries):
        assert later.before == earlier.after


STEPS = ("open", "write", "flush", "fsync", "replace", "truncate")


def _first(mine):
    mine.release(1, STABLE, "")


def _third(mine):
    mine.release(3, STABLE, "")


def _back(mine):
    mine.rollback("")


def _killed_at(folder, step, number, change):
    """Runs a change in a process that kills itself at the n-th of a kind of step."""
    left = [number]

    def dying(name, wrapped):
        def call(*args, **kwargs):
            if name == step:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return wrapped(*args, **kwargs)

        return call

    class Path(type(folder)):
        def open(self, *args, **kwargs):
            file = dying("open", super().open)(*args, **kwargs)
            return _File(file, dying) if file.writable() else file

        replace = dying("replace", type(folder).replace)

    module.os.fsync = dying("fsync", os.fsync)
    change(Releases(Path(folder)))


class _File:
    """A file whose writes can be the last thing that a process does: half of them are on disk then."""

    def __init__(self, file, dying):
        self._file = file
        self.flush, self.truncate = dying("flush", file.flush), dying("truncate", file.truncate)
        self._dying = dying

    def write(self, content):
        half = len(content) // 2
        self._file.write(content[:half])
        self._file.flush()
        self._dying("write", lambda: None)()
        self._file.write(content[half:])

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("action", ["release", "rollback"])
def test_whoever_is_killed_leaves_the_old_state_or_the_new_one(folder, step, number, action):
    releases = Releases(folder)
    releases.release(1, STABLE, "")
    releases.release(2, STABLE, "")
    old = {STABLE: 2, PREVIOUS: 1}
    new = {STABLE: 1} if action == "rollback" else {STABLE: 3, PREVIOUS: 2}

    change = _back if action == "rollback" else _third
    process = PROCESSES.Process(target=_killed_at, args=(folder, step, number, change))
    process.start()
    process.join(30)
    assert process.exitcode in (0, -signal.SIGKILL)
    config = policy_of(only_model(read_config(str(folder / "models.config"))))  # what a server would read
    assert config.labels == releases.labels()
    assert releases.labels() in (old, new) and (process.exitcode or releases.labels() == new)
    assert releases.entries()[-1].after == releases.labels()
    if releases.labels() == old:  # who asks again is not in the way of what was left
        change(releases)
    else:
        releases.release(4, CANARY, "")
    lines = [json.loads(line) for line in (folder / "releases.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[2]["after"] == new and all(a["after"] == b["before"] for a, b in pairwise(lines))


def test_the_killing_test_kills(folder):
    """At every kind of step, at least once."""
    for step in STEPS:
        shutil.rmtree(folder / "homefeed" / "..", ignore_errors=True)
        for version in (1, 2):
            (folder / "homefeed" / str(version)).mkdir(parents=True, exist_ok=True)
            (folder / "homefeed" / str(version) / "saved_model.pb").touch()
        process = PROCESSES.Process(target=_killed_at, args=(folder, step, 1, _first))
        process.start()
        process.join(30)
        assert process.exitcode == -signal.SIGKILL, step


ACTIONS = st.lists(st.tuples(st.sampled_from([STABLE, CANARY, "rollback"]), st.integers(1, 4)), max_size=12)


@given(ACTIONS)
@settings(max_examples=200)
def test_labels_never_point_back_to_what_was_rolled_back(actions):
    labels, entries, given_up = {}, [], set()
    for number, (action, version) in enumerate(actions, 1):
        before = labels
        if action == "rollback":
            if PREVIOUS not in labels:
                continue
            labels = rolled_back(labels, entries, range(100))
            assert labels[STABLE] == before[PREVIOUS]
            given_up.add(before[STABLE])
        else:
            if labels.get(action) == version:
                continue
            labels = promoted(labels, version, action)
            assert labels[action] == version
            given_up -= {version} if action == STABLE else set()
        entries.append(
            module.Entry(number, "", "", "", "rollback" if action == "rollback" else "release", before, labels)
        )
        assert labels.get(STABLE) not in given_up and labels.get(PREVIOUS) not in given_up
        assert PREVIOUS not in labels or labels[PREVIOUS] != labels[STABLE]
        assert action != STABLE or labels.get(CANARY) != version


def test_a_server_is_waited_for(releases, monkeypatch):
    """Labels are given only when what they point to answers."""
    told = []

    class Server:
        def __init__(self, *_, **__):
            self.looks = 0

        def reload(self, config):
            policy = policy_of(only_model(config))
            told.append((policy.versions, dict(policy.labels)))

        def status(self):
            self.looks += 1
            return {1: "AVAILABLE", 2: "LOADING" if self.looks < 3 else "AVAILABLE"}

    monkeypatch.setattr(module, "GrpcClient", Server)
    monkeypatch.setattr(releases, "_pause", 0.01)
    releases.release(1, STABLE, "")
    releases.release(2, CANARY, "", addresses=["grpc://somewhere:1"])
    assert told == [((1, 2), {STABLE: 1}), ((1, 2), {STABLE: 1, CANARY: 2})]
    monkeypatch.setattr(Server, "status", lambda _: {3: "END"})
    told.clear()
    with pytest.raises(HomefeedError, match="nothing was released"):
        releases.release(3, CANARY, "", addresses=["grpc://somewhere:1"])
    assert told == [((1, 2, 3), {STABLE: 1, CANARY: 2}), ((1, 2), {STABLE: 1, CANARY: 2})]
    assert releases.labels() == {STABLE: 1, CANARY: 2}
