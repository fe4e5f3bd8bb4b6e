"""Which versions of a model there are, which are loaded, under which labels, and the swap from one to the next."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.errors import Code, ServingError, not_met, not_served, unknown_label
from serving.loading import Loaded, Loader
from serving.memory import give_back

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
      versions: which; None for the newest that load.
      labels: label -> version, for requests that ask by label.
      latest: how many of the newest; 0 for all.
    """

    versions: tuple[int, ...] | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    latest: int = 1


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
      loader: how versions are loaded.
    """

    def __init__(self, name: str, base_path: str, early_labels: bool = False, loader: Loader | None = None):
        self.name, self.base_path = name, base_path
        self._base, self._early_labels = Path(base_path), early_labels
        self._loader = loader or Loader()
        self._lock = threading.Lock()
        self._changing = threading.Lock()  # held by who loads: the watch, or a request to reload
        self._policy = Policy()
        self._loaded: dict[int, Loaded] = {}
        self._statuses: dict[int, VersionStatus] = {}

    @property
    def is_served(self) -> bool:
        """Whether any version can answer."""
        with self._lock:
            return bool(self._loaded)

    def refresh(self) -> None:
        """Looks for versions that are to be served and are not yet. Errors are logged and kept in their status."""
        with self._changing:
            self._load_wanted(self._policy)

    def apply(self, policy: Policy) -> None:
        """Serves by another policy from now on: loads what it names, then swaps labels and versions at once.

        Raises:
          ServingError: a label of a version that is not served, in TensorFlow Serving's words; the labels are as they
            were.
        """
        with self._changing:
            for version in policy.versions or ():  # one that failed before may be mended by now
                if self._statuses.get(version, VersionStatus(version, LOADING)).state == END:
                    del self._statuses[version]
            self._load_wanted(policy, unload=False)
            for label, version in policy.labels.items():
                is_early = self._early_labels and self._policy.labels.get(label, version) == version
                if version not in self._loaded and not is_early:
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {self.name}, which is not currently "
                        "available for inference",
                    )
            with self._lock:
                self._policy = policy
            self._load_wanted(policy)

    def _load_wanted(self, policy: Policy, unload: bool = True) -> None:
        if policy.versions is not None:
            wanted = {v for v in policy.versions if v in self._loaded or self._try(v)}
        else:
            there = versions_in(self._base)
            wanted = set()
            for version in sorted({*there, *self._loaded}, reverse=True):
                if policy.latest and len(wanted) == policy.latest:
                    break
                if version in self._loaded or self._try(version):
                    wanted.add(version)
            if policy.latest == 0:  # all that are there; what is gone from the folder goes
                wanted &= set(there) or wanted
        if not (unload and wanted & self._loaded.keys()):  # while nothing that is wanted can answer, the old ones do
            return
        with self._lock:
            gone = {version: self._loaded.pop(version) for version in self._loaded.keys() - wanted}
            for version in gone:
                self._statuses[version] = VersionStatus(version, END)
        if gone:
            log.info("unloaded", extra={"model": self.name, "versions": sorted(gone)})
            gone.clear()
            give_back()

    def _try(self, version: int) -> bool:
        status = self._statuses.get(version)
        if status and status.state == END:
            return False
        self._statuses[version] = VersionStatus(version, LOADING)
        try:
            model = self._loader.load(str(self._base / str(version)), version)
        except Exception as error:  # whatever is wrong with a version, the others go on
            log.error("does not load", extra={"model": self.name, "version": version, "error": str(error)})
            self._statuses[version] = VersionStatus(version, END, str(error))
        else:
            self._serve(version, model)
            return True
        give_back()
        return False

    def _serve(self, version: int, model: Loaded) -> None:
        with self._lock:
            self._loaded[version] = model
            self._statuses[version] = VersionStatus(version, AVAILABLE)
        log.info("available", extra={"model": self.name, "version": version})

    def get(self, version: int | None = None, label: str | None = None) -> Loaded:
        """The version that answers a request: the one that is asked for, else the newest that is served.

        Raises:
          ServingError: in TensorFlow Serving's words.
        """
        with self._lock:
            if label is not None:
                if label not in self._policy.labels:
                    raise unknown_label(label)
                version = self._policy.labels[label]
            served = max(self._loaded, default=None) if version is None else version
            if served is None or served not in self._loaded:
                raise not_served(self.name, version)
            return self._loaded[served]

    def statuses(self, version: int | None = None) -> list[VersionStatus]:
        """Statuses of all versions that were met, newest first, or of one.

        Raises:
          ServingError: the version is not known, or there is none.
        """
        with self._lock:
            found = [s for v, s in sorted(self._statuses.items(), reverse=True) if version in (None, v)]
        if not found:
            raise not_met(self.name, version)
        return found
