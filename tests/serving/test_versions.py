"""Versions of a model: which are served, and what replaces them."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.client import RequestFailed, connect
from serving.flags import Flags
from serving.server import running_server
from serving.versions import VersionedModel
from tests.serving.running import asked, push, serving, wait_for


def test_a_new_version_takes_over_and_a_broken_one_never_does(exported, tmp_path):
    push(exported, 1, tmp_path)
    with serving(tmp_path, file_system_poll_wait_seconds=0.1) as (grpc_port, _):
        client = connect(f"grpc://localhost:{grpc_port}", "m")
        shutil.copytree(exported[1], tmp_path / ".partial")
        (tmp_path / ".partial" / "saved_model.pb").write_bytes(b"\x0a\xff broken")
        (tmp_path / ".partial").rename(tmp_path / "3")
        push(exported, 2, tmp_path)
        while client.status().get(2) != "AVAILABLE":
            assert asked(client) in (2.5, 3.5)
        wait_for(lambda: client.status() == {3: "END", 2: "AVAILABLE", 1: "END"})
        assert asked(client) == 3.5


def test_half_a_version_is_not_looked_at(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / ".staging").mkdir()
    model = VersionedModel("m", str(tmp_path))
    model.refresh()
    assert not model.is_served and os.listdir(tmp_path / "7") == []


@pytest.mark.parametrize(
    ("policy", "served"),
    [("", {3}), ("latest { num_versions: 2 }", {2, 3}), ("all {}", {1, 2, 3}), ("specific { versions: 1 }", {1})],
)
def test_version_policies(exported, tmp_path, policy, served):
    for number in (1, 2, 3):
        (tmp_path / "m").mkdir(exist_ok=True)
        push(exported, 1, tmp_path / "m", number)
    config = tmp_path / "models.config"
    entry = f'name: "m" base_path: "{tmp_path}/m" model_platform: "tensorflow" model_version_policy {{ {policy} }}'
    config.write_text(f"model_config_list {{ config {{ {entry} }} }}")
    flags = Flags(-1, model_config_file=str(config), file_system_poll_wait_seconds=0.1)
    with running_server(flags) as (grpc_port, rest_port):
        assert rest_port == 0
        client = connect(f"grpc://localhost:{grpc_port}", "m")
        assert {version for version, state in client.status().items() if state == "AVAILABLE"} == served
        push(exported, 2, tmp_path / "m", 4)
        then = {"latest { num_versions: 2 }": {3, 4}, "all {}": {1, 2, 3, 4}, "": {4}}.get(policy, served)
        wait_for(lambda: {v for v, state in client.status().items() if state == "AVAILABLE"} == then)


def test_hot_swaps_under_load_fail_no_request(exported, tmp_path):
    push(exported, 1, tmp_path, 1)
    with serving(tmp_path, file_system_poll_wait_seconds=0.05) as (grpc_port, rest_port):
        stop, answers, errors = threading.Event(), set(), []

        def load(address):
            client = connect(address, "m")
            while not stop.is_set():
                try:
                    answers.add(asked(client))
                except RequestFailed as error:
                    errors.append(error)

        addresses = [f"grpc://localhost:{grpc_port}", f"http://localhost:{rest_port}"] * 2
        with ThreadPoolExecutor(len(addresses)) as pool:
            running = [pool.submit(load, address) for address in addresses]
            watching = connect(addresses[0], "m")
            for number in range(2, 8):
                push(exported, 1 + number % 2, tmp_path, number)
                wait_for(lambda number=number: watching.status().get(number) == "AVAILABLE")
            stop.set()
            for future in running:
                future.result()
        assert not errors and answers == {2.5, 3.5}
