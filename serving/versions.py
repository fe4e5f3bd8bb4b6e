"""Which versions of a model there are, which is loaded, and the swap from one to the next."""

import logging
import threading
from dataclasses import dataclass
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


class NotServed(HomefeedError):
    """The request asks for a model or version that is not served."""


def versions_in(base: Path) -> list[int]:
    """Versions below a folder, newest first: folders whose name is a number and that hold `saved_model.pb`."""
    found = (int(p.name) for p in base.glob("*") if p.name.isdecimal() and (p / "saved_model.pb").is_file())
    return sorted(found, reverse=True)


class VersionedModel:
    """Serves the newest version below a folder, as TensorFlow Serving's default policy does.

    A new version is loaded beside the old one, which answers until the new one can; one that does not load never
    replaces it.

    Args:
      name: what requests call the model.
      base_path: the folder of versions.
    """

    def __init__(self, name: str, base_path: str):
        self.name = name
        self._base = Path(base_path)
        self._lock = threading.Lock()
        self._loaded: tuple[int, ServableModel] | None = None
        self._statuses: dict[int, VersionStatus] = {}
        self._stopped = threading.Event()

    def refresh(self) -> None:
        """Looks for a newer version and serves it. Errors are logged and kept in the version's status."""
        for version in versions_in(self._base):
            if self._loaded and version <= self._loaded[0]:
                return
            status = self._statuses.get(version)
            if status and status.state == END:
                continue
            if self._load(version):
                return

    def _load(self, version: int) -> bool:
        self._statuses[version] = VersionStatus(version, LOADING)
        try:
            model = ServableModel(str(self._base / str(version)))
        except Exception as error:  # whatever is wrong with a version, the one before goes on
            log.error("version %d of %s does not load: %s", version, self.name, error)
            self._statuses[version] = VersionStatus(version, END, str(error))
            return False
        with self._lock:
            previous, self._loaded = self._loaded, (version, model)
            self._statuses[version] = VersionStatus(version, AVAILABLE)
            if previous:
                self._statuses[previous[0]] = VersionStatus(previous[0], END)
        log.info("serving version %d of %s", version, self.name)
        return True

    def watch(self, seconds: float) -> threading.Thread:
        """Refreshes every `seconds` in the background until `stop`."""

        def loop() -> None:
            while not self._stopped.wait(seconds):
                self.refresh()

        thread = threading.Thread(target=loop, name="versions", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Ends the watch."""
        self._stopped.set()

    def get(self, name: str, version: int | None = None) -> tuple[int, ServableModel]:
        """The version that answers a request.

        Raises:
          NotServed: in TensorFlow Serving's words.
        """
        with self._lock:
            if name != self.name or not self._loaded or version not in (None, self._loaded[0]):
                which = f"Specific({name}, {version})" if version is not None else f"Latest({name})"
                raise NotServed(f"Servable not found for request: {which}")
            return self._loaded

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Statuses of all versions that were met, newest first, or of one.

        Raises:
          NotServed: the model or the version is not known.
        """
        with self._lock:
            found = [s for v, s in sorted(self._statuses.items(), reverse=True) if version in (None, v)]
        if name != self.name or not found:
            wanted = f"name: {name}" + (f" version: {version}" if version is not None else "")
            raise NotServed(f"Could not find any versions of model with {wanted}")
        return found
