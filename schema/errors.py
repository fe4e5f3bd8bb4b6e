"""Errors that a person can act on, each with the exit code that the command line gives it."""


class HomefeedError(Exception):
    """One sentence: what is wrong, where, and what to do. Printed without a traceback."""

    exit_code = 1


class InputError(HomefeedError):
    """Input files, arguments or configuration cannot be used."""

    exit_code = 2


class GateRefused(HomefeedError):
    """A gate said no: nothing was pushed, and the models pushed before are as they were."""

    exit_code = 3
