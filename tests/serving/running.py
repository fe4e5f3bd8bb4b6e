"""Embedded servers over versions that come while they run."""

import shutil
import time

import numpy as np

from serving.flags import Flags
from serving.server import running_server

X = {"x": np.array([1.0], np.float32)}


def push(exported, version, base, number=None):
    """Copies a version to where a server looks, in one step."""
    number = number or version
    staging = base / f".{number}"
    shutil.copytree(exported[version], staging)
    return staging.rename(base / str(number))


def serving(base, **flags):
    return running_server(Flags(-1, rest_api_port=-1, model_name="m", model_base_path=str(base), **flags))


def asked(client):
    return float(client.predict("serving_default", X)["y"][0])


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to be in time")


def with_parameters(tmp_path, text):
    """Flags of a server that batches requests by parameters in TensorFlow Serving's format."""
    file = tmp_path / "batching.config"
    file.write_text(text)
    return {"enable_batching": True, "batching_parameters_file": str(file)}
