"""Which versions are `canary`, `stable` and `previous`: changed in one step, and written down for ever.

The state is TensorFlow Serving's model configuration file, and the one step is its replacement by another: whoever is
killed before it leaves the old state, and after it the new one. The file's first lines carry the release's entry of the
log, so that a log that a killed process did not come to write is completed by the next. A server follows the file
(`--model_config_file_poll_wait_seconds`), or is told at once where its address is given.
"""

import getpass
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import filelock

from schema import names
from schema.errors import GateRefused, HomefeedError, InputError
from schema.files import replace_text
from serving.calls import RequestFailed
from serving.grpc_client import GrpcClient
from serving.model_config import ModelServerConfig, model_config, only_model, policy_of, read_config
from serving.versions import AVAILABLE, Policy, versions_in

CANARY, STABLE, PREVIOUS = "canary", "stable", "previous"
LABELS = (STABLE, CANARY, PREVIOUS)
RELEASE, ROLLBACK, WITHDRAWAL = "release", "rollback", "withdrawal"
_ENTRY = "# homefeed: "
_LOAD_SECONDS = 300
Labels = dict[str, int]


@dataclass(frozen=True)
class Entry:
    """A line of the log.

    Attributes:
      number: from 1, without gaps.
      when: UTC, ISO 8601.
      who: the user of the machine, or whom the release job names.
      why: in their words.
      action: `release`, `rollback` or `withdrawal` (of a canary).
      before, after: label -> version.
    """

    number: int
    when: str
    who: str
    why: str
    action: str
    before: Labels
    after: Labels

    def __str__(self) -> str:
        both = [(label, self.before.get(label, "none"), self.after.get(label, "none")) for label in LABELS]
        changed = [f"{label} was {before}, is {after}" for label, before, after in both if before != after]
        return f"{self.action} {self.number}: {'; '.join(changed)}"


class Releases:
    """The releases of a workspace.

    Args:
      folder: its `serving/` folder; the versions lie in `homefeed/` below it.
      pause: seconds between two looks at a server that loads a version.
    """

    def __init__(self, folder: Path, pause: float = 0.5):
        self._folder, self._pause = folder.resolve(), pause
        self.config_file, self.log_file = self._folder / "models.config", self._folder / "releases.jsonl"

    def labels(self) -> Labels:
        """Label -> version; empty before the first release. Raises InputError for a file that is not ours."""
        return dict(self._policy().labels)

    def entries(self) -> list[Entry]:
        """The log, oldest first; with the last release even where who made it was killed before it was logged."""
        logged = [Entry(**json.loads(line)) for line in self._lines()]
        last = self._last_entry()
        return [*logged, last] if last and last.number > len(logged) else logged

    def release(
        self,
        version: int,
        label: str,
        why: str,
        who: str = "",
        addresses: Sequence[str] = (),
        refusals: Callable[[int], Sequence[str]] = lambda _: (),
    ) -> Entry:
        """Makes a version `canary` or `stable`; the stable one before becomes `previous`.

        Args:
          version: of the model.
          label: `canary` or `stable`.
          why, who: for the log; without `who`, the user of the machine.
          addresses: grpc://HOST:PORT of servers that are told at once.
          refusals: version -> why the gates do not let it pass; nothing where they do.

        Raises:
          InputError: the version has the label already, or is not there. GateRefused: the gates say no.
          HomefeedError: another release is going on, or a server did not follow.
        """
        with self.alone():
            before = self.labels()
            if before.get(label) == version:
                self._tell(addresses)  # one that was killed may not have told them
                raise InputError(f"version {version} is {label} already.")
            self._find(version)
            if found := refusals(version):
                raise GateRefused(f"version {version} is not released: {' '.join(found)}")
            return self._change(RELEASE, promoted(before, version, label), why, who, addresses)

    def rollback(self, why: str, who: str = "", addresses: Sequence[str] = ()) -> Entry:
        """Makes `previous` stable again, and gives `previous` to the one that was stable before it. The version that is
        left has no label any more, so that nothing brings it back but a release.

        Raises:
          InputError: there is no previous version, or it is not there any more. HomefeedError: as `release`.
        """
        with self.alone():
            before = self.labels()
            if PREVIOUS not in before:
                raise InputError("there is no previous version to roll back to.")
            self._find(before[PREVIOUS])
            there = versions_in(self._folder / names.MODEL_NAME)
            return self._change(ROLLBACK, rolled_back(before, self.entries(), there), why, who, addresses)

    def withdraw(self, why: str, who: str = "", addresses: Sequence[str] = ()) -> Entry:
        """Takes the label `canary` away. Raises InputError where no version has it; HomefeedError as `release`."""
        with self.alone():
            before = self.labels()
            if CANARY not in before:
                raise InputError("no version is canary.")
            after = {label: version for label, version in before.items() if label != CANARY}
            return self._change(WITHDRAWAL, after, why, who, addresses)

    def _find(self, version: int) -> None:
        base = self._folder / names.MODEL_NAME
        if version not in versions_in(base):
            raise InputError(f"{base}: holds no version {version}.")

    def _change(self, action: str, after: Labels, why: str, who: str, addresses: Sequence[str]) -> Entry:
        before = self.labels()
        self._load(addresses, before, after)
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entry = Entry(len(self.entries()) + 1, when, who or getpass.getuser(), why, action, before, after)
        replace_text(self.config_file, self._text(entry))  # the step
        self._complete_log()
        self._tell(addresses)
        return entry

    def _text(self, entry: Entry) -> str:
        head = "# Written by `homefeed release`; TensorFlow Serving reads it with --model_config_file.\n"
        return f"{head}{_ENTRY}{json.dumps(asdict(entry))}\n{self._config(entry.after)}"

    def _config(self, labels: Labels, versions: Sequence[int] = ()) -> ModelServerConfig:
        """What a server is to serve: the labelled versions, and some more."""
        policy = Policy(tuple(sorted({*labels.values(), *versions})), labels)
        own = model_config(names.MODEL_NAME, str(self._folder / names.MODEL_NAME), policy)
        return ModelServerConfig(model_config_list={"config": [own]})

    # --- servers -----------------------------------------------------------------------------------------------------

    def _load(self, addresses: Sequence[str], before: Labels, after: Labels) -> None:
        """Has servers load the versions to come beside those of now, with the labels of now: a label can be given only
        to a version that answers. Where one of them cannot, all are told to forget it."""
        wanted = self._config(before, list(after.values()))
        try:
            for address in addresses:
                client = _client(address)
                client.reload(wanted)
                self._await(client, address, set(after.values()))
        except HomefeedError:
            for address in addresses:
                try:
                    if before:
                        _client(address).reload(self._config(before))
                except HomefeedError:
                    continue  # the first error is the one to tell
            raise

    def _await(self, client: GrpcClient, address: str, versions: set[int]) -> None:
        deadline = time.monotonic() + _LOAD_SECONDS
        while missing := {v: s for v in versions if (s := client.status().get(v, "not loaded")) != AVAILABLE}:
            if time.monotonic() > deadline or "END" in missing.values():
                raise HomefeedError(f"{address}: does not serve {missing}; nothing was released.")
            time.sleep(self._pause)

    def _tell(self, addresses: Sequence[str]) -> None:
        config = self._config(self.labels())
        for address in addresses:
            try:
                _client(address).reload(config)
            except RequestFailed as error:
                raise HomefeedError(
                    f"{address}: did not take the labels ({error}); {self.config_file} has them: ask for the same once "
                    "more, or restart the server."
                ) from error

    # --- files -------------------------------------------------------------------------------------------------------

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the workspace's releases, and completes what a killed release has left. Raises HomefeedError where
        another process holds them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self._folder / ".release.lock")
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout as error:
            raise HomefeedError(f"{self._folder}: another release is going on; ask again when it is done.") from error
        try:
            self._complete_log()
            yield
        finally:
            lock.release()

    def _policy(self) -> Policy:
        return policy_of(only_model(read_config(str(self.config_file)))) if self.config_file.exists() else Policy()

    def _last_entry(self) -> Entry | None:
        if not self.config_file.exists():
            return None
        for line in self.config_file.read_text(encoding="utf-8").splitlines():
            if line.startswith(_ENTRY):
                return Entry(**json.loads(line[len(_ENTRY) :]))
        raise InputError(f"{self.config_file}: was not written by `homefeed release`; move it away.")

    def _lines(self) -> list[str]:
        """Whole lines of the log: of one that was cut off, its release is in the configuration file."""
        text = self.log_file.read_text(encoding="utf-8") if self.log_file.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def _complete_log(self) -> None:
        """Appends the last release where it is not there."""
        last, lines = self._last_entry(), self._lines()
        if last is None or last.number <= len(lines):
            return
        with self.log_file.open("r+b" if self.log_file.exists() else "x+b") as file:
            file.truncate(sum(len(line.encode()) + 1 for line in lines))
            file.seek(0, os.SEEK_END)
            file.write(f"{json.dumps(asdict(last))}\n".encode())
            file.flush()
            os.fsync(file.fileno())


def promoted(labels: Mapping[str, int], version: int, label: str) -> Labels:
    """The labels after a version is made `canary` or `stable`."""
    if label == CANARY:
        return {**labels, CANARY: version}
    after = {name: of for name, of in labels.items() if name == CANARY and of != version}
    if STABLE in labels:
        after[PREVIOUS] = labels[STABLE]
    return {**after, STABLE: version}


def rolled_back(labels: Mapping[str, int], entries: Sequence[Entry], there: Collection[int]) -> Labels:
    """The labels after the stable version is given up. `previous` is then what was stable before, of the versions that
    are still `there`; one that was ever given up comes back by a release alone."""
    stable: list[int] = []  # versions that were, but those that were given up
    for entry in entries:
        if entry.action == ROLLBACK:
            stable = [version for version in stable if version != entry.before[STABLE]]
        elif entry.after.get(STABLE) != entry.before.get(STABLE):
            stable.append(entry.after[STABLE])
    earlier = [version for version in stable if version in there and version not in (labels[STABLE], labels[PREVIOUS])]
    after = {label: version for label, version in labels.items() if label == CANARY and version != labels[STABLE]}
    return {**after, STABLE: labels[PREVIOUS], **({PREVIOUS: earlier[-1]} if earlier else {})}


def _client(address: str) -> GrpcClient:
    scheme, _, host = address.partition("://")
    if scheme != "grpc":
        raise InputError(f"{address}: labels are changed over gRPC; give grpc://HOST:PORT.")
    return GrpcClient(host, names.MODEL_NAME, timeout=60.0)
