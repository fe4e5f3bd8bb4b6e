"""What a process of its own brings back, and what it survives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.apart import apart
from schema import names
from schema.errors import GateRefused, HomefeedError, InputError


def sums(*numbers):
    return sum(numbers), os.getpid()


def refuses(error):
    raise error


def dies(number):
    os.kill(os.getpid(), number)
    return "lives"


def waits(file):
    Path(file).write_text(str(os.getpid()))
    time.sleep(60)


def test_what_is_returned_comes_back_from_another_process():
    total, process = apart(sums, 1, 2)
    assert total == 3 and process != os.getpid()


def test_an_error_of_ours_comes_back_as_it_is():
    with pytest.raises(GateRefused, match="robots") as refused:
        apart(refuses, GateRefused("robots", {names.BEHAVIORS}))
    assert refused.value.tables == {names.BEHAVIORS} and str(refused.value) == "robots"
    with pytest.raises(InputError, match=r"^no such folder$"):
        apart(refuses, InputError("no such folder"))


def test_a_process_that_ends_without_a_word_is_told(capfd):
    with pytest.raises(HomefeedError, match=r"killed by signal 9, perhaps for want of memory"):
        apart(dies, signal.SIGKILL)
    with pytest.raises(HomefeedError, match=r"ended with code 1"):
        apart(refuses, ValueError("a fault of ours"))
    assert "a fault of ours" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_does_not_end_it(number):
    assert apart(dies, number) == "lives"


def test_it_ends_with_its_caller(tmp_path):
    file = tmp_path / "process"
    code = f"from pipeline.apart import apart; from test_apart import waits; apart(waits, {str(file)!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    caller = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        until = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert caller.poll() is None and time.monotonic() < until
            time.sleep(0.1)
    finally:
        caller.kill()
        caller.wait()
    process = int(file.read_text())
    while psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.1)
