"""All models of a server: by its configuration, which may change while it runs."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import Code, ServingError, invalid, not_met, not_served, unknown_label
from serving.inference import Arrays, Version
from serving.loading import Loaded, Loader
from serving.memory import give_back
from serving.messages import ModelServerConfig
from serving.model_config import policy_of
from serving.versions import VersionedModel, VersionStatus

log = logging.getLogger("homefeed.serving")
Note = Callable[[str, Arrays], None]


class Models:
    """The models that are served.

    Args:
      loader: how versions are loaded.
      early_labels: labels may be given to versions that are not served yet.
      note: is told (signature, inputs) of each request that was answered.
    """

    def __init__(self, loader: Loader, early_labels: bool = False, note: Note | None = None):
        self.metrics, self._note = loader.metrics, note
        self._loader, self._early_labels = loader, early_labels
        self._models: dict[str, VersionedModel] = {}
        self._changing = threading.Lock()
        self._stopped = threading.Event()

    def apply(self, config: ModelServerConfig) -> None:
        """Serves by another configuration from now on. What it names is loaded first; what it no longer names goes
        last.

        Raises:
          ServingError: in TensorFlow Serving's words; a model whose entry is refused is served as before.
        """
        with self._changing:
            entries = _checked(config)
            for entry in entries:
                model = self._models.get(entry.name)
                if model is None or model.base_path != entry.base_path:
                    model = VersionedModel(entry.name, entry.base_path, self._early_labels, self._loader)
                model.apply(policy_of(entry))
                if not model.is_served and entry.name not in self._models:
                    errors = [f" due to error: {s.error}" for s in _met(model) if s.error]
                    raise ServingError(
                        Code.UNKNOWN,
                        f"1 model(s) did not become available: {{{{name: {entry.name}{''.join(errors[:1])}}}, }}",
                    )
                self._models[entry.name] = model
            gone = set(self._models) - {entry.name for entry in entries}
            for name in gone:
                del self._models[name]
            if gone:
                log.info("no longer served", extra={"models": sorted(gone)})
                give_back()

    def refresh(self) -> None:
        """Looks for new versions of all models."""
        with self._changing:
            models = list(self._models.values())
        for model in models:
            model.refresh()

    def watch(self, seconds: float, look: Callable[[], Any]) -> None:
        """Looks every so many seconds in the background, until `stop`. Never where 0."""
        if seconds <= 0:
            return

        def loop() -> None:
            while not self._stopped.wait(seconds):
                try:
                    look()
                except Exception as error:  # what is served stays as it is
                    log.error("the look for changes failed", extra={"error": str(error)})

        threading.Thread(target=loop, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Ends the watches."""
        self._stopped.set()

    def get(self, name: str, version: int | None = None, label: str | None = None) -> Loaded:
        """The version that answers a request. Raises ServingError where there is none."""
        if not name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(name)
        if model is not None:
            return model.get(version, label)
        if label is not None:
            raise unknown_label(label)
        raise not_served(name, version)

    def version(
        self, name: str, version: int | None = None, label: str | None = None, timeout_ms: int = 0, api: str = ""
    ) -> Version:
        """As `get`, to be asked: given up after `timeout_ms`, where that is not 0, and timed as `api`."""
        found = self.get(name, version, label).version(timeout_ms)

        def run(signature: str, inputs: Arrays, outputs: Collection[str]) -> dict[str, np.ndarray]:
            start = time.perf_counter()
            answer = found.run(signature, inputs, outputs)
            answered(start, signature, inputs)
            return answer

        async def ask(signature: str, inputs: Arrays, outputs: Collection[str]) -> dict[str, np.ndarray]:
            start = time.perf_counter()
            answer = await found.ask(signature, inputs, outputs)
            answered(start, signature, inputs)
            return answer

        def answered(start: float, signature: str, inputs: Arrays) -> None:
            self.metrics.runtime_latency.add(name, api, "TF1", value=1e6 * (time.perf_counter() - start))
            if self._note is not None:
                self._note(signature, inputs)

        return found._replace(run=run, ask=ask)

    def count_examples(self, name: str, count: int) -> None:
        """Notes how many examples a request had."""
        self.metrics.examples.add(name, value=count)
        self.metrics.example_total.add(name, count=count)

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Statuses of a model's versions. Raises ServingError where there are none."""
        model = self._models.get(name)
        if model is None:
            raise not_met(name, version)
        return model.statuses(version)


def _met(model: VersionedModel) -> list[VersionStatus]:
    try:
        return model.statuses()
    except ServingError:
        return []


def _checked(config: ModelServerConfig) -> list[Any]:
    """The entries of a configuration. Raises ServingError as server_core.cc does."""
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported"
        )
    entries = list(config.model_config_list.config)
    for i, entry in enumerate(entries):
        if entry.name in {other.name for other in entries[:i]}:
            raise invalid(f"Illegal to list model {entry.name} multiple times in config list")
        if not (Path(entry.base_path).is_absolute() or "://" in entry.base_path):
            raise invalid(
                f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}"
            )
        if not entry.model_platform:
            raise invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {entry.name}"
            )
        if entry.model_platform != "tensorflow":
            raise invalid(f"Model {entry.name} has platform {entry.model_platform}; only tensorflow is served.")
    return entries
