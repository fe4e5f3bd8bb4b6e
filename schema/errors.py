"""Errors that a person can act on, each with the exit code that the command line gives it."""

from collections.abc import Iterable


class HomefeedError(Exception):
    """One sentence: what is wrong, where, and what to do. Printed without a traceback."""

    exit_code = 1


class InputError(HomefeedError):
    """Input files, arguments or configuration cannot be used."""

    exit_code = 2


class GateRefused(HomefeedError):
    """A gate said no: nothing was pushed, and the models pushed before are as they were.

    Args:
      reason: the sentence.
      tables: those for which DataGate has refused the data; empty for other gates.
    """

    exit_code = 3

    def __init__(self, reason: str, tables: Iterable[str] = ()):
        super().__init__(reason)
        self.tables = frozenset(tables)

    def __reduce__(self) -> tuple[type["GateRefused"], tuple[str, frozenset[str]]]:
        return GateRefused, (str(self), self.tables)
