"""`homefeed status`: versions, labels, what servers serve, and the log of releases."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.gate import judge
from pipeline.lineage import Store
from schema import names
from schema.errors import InputError
from serving.client import RequestFailed, connect
from serving.releases import LABELS, Releases
from serving.versions import versions_in


def print_status(store: Store, serving: Path, addresses: Sequence[str], last: int, console: Console) -> None:
    """Shows the tables.

    Args:
      store, serving: the workspace's ML Metadata and folder of versions.
      addresses: of servers that are asked what they serve.
      last: releases that are shown.
    """
    releases = Releases(serving)
    labels = releases.labels()
    states = {address: _states(address) for address in addresses}
    versions = Table("version", "label", "gates", *states, title="Versions")
    for version in versions_in(serving / names.MODEL_NAME):
        own = [label for label in LABELS if labels.get(label) == version]
        served = [state.get(version, "") for state in states.values()]
        versions.add_row(str(version), ", ".join(own), _gates(store, serving, version), *served)
    console.print(versions)
    log = Table("", "when", "who", "why", "what", *LABELS, title="Releases")
    for entry in releases.entries()[-last:]:
        after = [str(entry.after.get(label, "")) for label in LABELS]
        log.add_row(str(entry.number), entry.when, entry.who, entry.why, entry.action, *after)
    console.print(log)


def _gates(store: Store, serving: Path, version: int) -> str:
    try:
        return "pass" if judge(store, serving, version).passed else "refused"
    except InputError:
        return "not of this workspace"


def _states(address: str) -> dict[int, str]:
    """Version -> what a server says of it. Raises InputError where it cannot be asked."""
    try:
        return connect(address, names.MODEL_NAME).status()
    except (RequestFailed, ValueError) as error:
        raise InputError(f"--address {address}: {error}.") from error
