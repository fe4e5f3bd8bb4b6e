import os
import signal

import pytest

from schema.signals import told_to_end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event_and_the_process_goes_on(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        told = told_to_end()
        assert not told.is_set()
        os.kill(os.getpid(), number)
        assert told.wait(5)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
