"""How a process that runs on is told to end."""

import signal
import threading


def told_to_end() -> threading.Event:
    """An event that SIGTERM and SIGINT set from now on, instead of ending the process: its work is ended in order. To
    be called in the main thread."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    return told
