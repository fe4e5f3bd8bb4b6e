"""Options that commands share."""

from collections.abc import Callable

Command = Callable[..., None]


def with_options(options: list[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Gives a command all of them."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
