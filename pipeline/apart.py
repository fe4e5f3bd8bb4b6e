"""A function in a process of its own: what a run holds in memory is given back at its end, and one that is killed for
want of it takes nobody along."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import pipeline.quiet  # noqa: F401  (before anything imports TensorFlow, in the new process too)
from schema.errors import HomefeedError

T = TypeVar("T")


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function of a module in a new process, and returns what it returns.

    SIGTERM and SIGINT, which a terminal or a service manager sends to a whole group, do not end the process: its caller
    decides. With the caller's death it ends.

    Args:
      function, arguments: can be pickled, and so can what is returned.

    Raises:
      HomefeedError: the function has raised it, or the process ended without a word.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, arguments))
    process.start()
    sender.close()
    result: Any = None
    with suppress(EOFError):
        result = receiver.recv()
    process.join()
    if process.exitcode != 0:
        code = process.exitcode or 0
        how = f"was killed by signal {-code}, perhaps for want of memory" if code < 0 else f"ended with code {code}"
        raise HomefeedError(f"the run's process {how}.")
    if isinstance(result, HomefeedError):
        raise result
    return result


def _call(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # unlike SIG_IGN not inherited by the programs that it starts
    threading.Thread(target=_end_with_caller, name="caller", daemon=True).start()
    try:
        result = function(*arguments)
    except HomefeedError as error:
        result = error
    sender.send(result)


def _end_with_caller() -> None:
    caller = multiprocessing.parent_process()
    assert caller is not None
    multiprocessing.connection.wait([caller.sentinel])
    os._exit(1)
