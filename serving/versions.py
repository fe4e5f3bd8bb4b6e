"""Which versions of a model there are, which are loaded, under which labels, and the swap from one to the next."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schema.errors import HomefeedError
from schema.saved_model import ServableModel

log = logging.getLogger("homefeed.serving")

# States as TensorFlow Serving's ModelVersionStatus names them.
AVAILABLE, END, LOADING = "AVAILABLE", "END", "LOADING"


@dataclass
class VersionStatus:
    """State of a version; `error` is empty unless it could not be loaded."""

    version: int
    state: str
    error: str = ""


@dataclass(frozen=True)
class Policy:
    """What is to be served.

    Attributes:
      versions: which; None for the newest that loads.
      labels: label -> version, for requests that ask by label.
    """

    versions: tuple[int, ...] | None = None
    labels: Mapping[str, int] = field(default_factory=dict)


class NotServed(HomefeedError):
    """The request asks for a model or version that is not served."""


class UnknownLabel(HomefeedError):
    """The request asks for a label that no version has."""


class LabelRefused(HomefeedError):
    """A label was to be given to a version that is not served."""


def versions_in(base: Path) -> list[int]:
    """Versions below a folder, newest first: folders whose name is a number and that hold `saved_model.pb`."""
    found = (int(p.name) for p in base.glob("*") if p.name.isdecimal() and (p / "saved_model.pb").is_file())
    return sorted(found, reverse=True)


class VersionedModel:
    """Serves versions of a model below a folder, as TensorFlow Serving does: by default the newest, else those that a
    policy names.

    A new version is loaded beside the old ones, which answer until the new one can; one that does not load never
    replaces another.

    Args:
      name: what requests call the model.
      base_path: the folder of versions.
      early_labels: labels may be given to versions that are not served yet.
    """

    def __init__(self, name: str, base_path: str, early_labels: bool = False):
        self.name = name
        self._base, self._early_labels = Path(base_path), early_labels
        self._lock = threading.Lock()
        self._changing = threading.Lock()  # held by who loads: the watch, or a request to reload
        self._policy = Policy()
        self._loaded: dict[int, ServableModel] = {}
        self._statuses: dict[int, VersionStatus] = {}
        self._stopped = threading.Event()

    def refresh(self) -> None:
        """Looks for versions that are to be served and are not yet. Errors are logged and kept in their status."""
        with self._changing:
            self._load_wanted(self._policy)

    def apply(self, policy: Policy) -> None:
        """Serves by another policy from now on: loads what it names, then swaps labels and versions at once.

        Raises:
          LabelRefused: in TensorFlow Serving's words; the labels are as they were.
        """
        with self._changing:
            for version in policy.versions or ():  # one that failed before may be mended by now
                if self._statuses.get(version, VersionStatus(version, LOADING)).state == END:
                    del self._statuses[version]
            self._load_wanted(Policy(policy.versions, self._policy.labels), unload=False)
            for label, version in policy.labels.items():
                if version not in self._loaded and not self._early_labels:
                    raise LabelRefused(
                        f"Request to assign label {label} to version {version} of model {self.name}, which is not "
                        "currently available for inference"
                    )
            with self._lock:
                self._policy = policy
            self._load_wanted(policy)

    def _load_wanted(self, policy: Policy, unload: bool = True) -> None:
        versions = policy.versions
        if versions is None:
            newest = max(self._loaded, default=-1)
            found = next((v for v in versions_in(self._base) if v > newest and self._try(v)), None)
            wanted = {newest if found is None else found}
        else:
            wanted = {v for v in versions if v in self._loaded or self._try(v)}
        if unload and wanted & self._loaded.keys():  # while nothing that is wanted can answer, the old ones do
            with self._lock:
                for version in self._loaded.keys() - wanted:
                    del self._loaded[version]
                    self._statuses[version] = VersionStatus(version, END)

    def _try(self, version: int) -> bool:
        status = self._statuses.get(version)
        if status and status.state == END:
            return False
        self._statuses[version] = VersionStatus(version, LOADING)
        try:
            model = ServableModel(str(self._base / str(version)))
        except Exception as error:  # whatever is wrong with a version, the others go on
            log.error("version %d of %s does not load: %s", version, self.name, error)
            self._statuses[version] = VersionStatus(version, END, str(error))
            return False
        with self._lock:
            self._loaded[version] = model
            self._statuses[version] = VersionStatus(version, AVAILABLE)
        log.info("serving version %d of %s", version, self.name)
        return True

    def watch(self, seconds: float, look: Callable[[], None] | None = None) -> threading.Thread:
        """Looks every `seconds` in the background until `stop`: by `look`, else by `refresh`."""

        def loop() -> None:
            while not self._stopped.wait(seconds):
                (look or self.refresh)()

        thread = threading.Thread(target=loop, name="versions", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Ends the watch."""
        self._stopped.set()

    def get(self, name: str, version: int | None = None, label: str | None = None) -> tuple[int, ServableModel]:
        """The version that answers a request: the one that is asked for, else the newest that is served.

        Raises:
          NotServed, UnknownLabel: in TensorFlow Serving's words.
        """
        with self._lock:
            if label is not None and name == self.name:
                if label not in self._policy.labels:
                    raise UnknownLabel(f"Unrecognized servable version label: {label}")
                version = self._policy.labels[label]
            served = max(self._loaded, default=None) if version is None else version
            if name != self.name or served is None or served not in self._loaded:
                which = f"Specific({name}, {version})" if version is not None else f"Latest({name})"
                raise NotServed(f"Servable not found for request: {which}")
            return served, self._loaded[served]

    def statuses(self, name: str, version: int | None = None, label: str | None = None) -> list[VersionStatus]:
        """Statuses of all versions that were met, newest first, or of one.

        Raises:
          NotServed: the model or the version is not known. UnknownLabel: no version has the label.
        """
        if label is not None and name == self.name:
            version, _ = self.get(name, label=label)
        with self._lock:
            found = [s for v, s in sorted(self._statuses.items(), reverse=True) if version in (None, v)]
        if name != self.name or not found:
            wanted = f"name: {name}" + (f" version: {version}" if version is not None else "")
            raise NotServed(f"Could not find any versions of model with {wanted}")
        return found
