"""What ML Metadata knows of a model: the run that made it, the version it was pushed as, and all that it came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from schema.errors import InputError

Artifact: TypeAlias = metadata_store_pb2.Artifact


@dataclass(frozen=True)
class Lineage:
    """Of one model.

    Attributes:
      version: that it was pushed as; None where it was not.
      artifacts: type -> the artifacts of that type that the model was made from or that speak of it, oldest first.
    """

    version: int | None
    artifacts: dict[str, list[Artifact]]

    def newest(self, kind: str) -> Artifact | None:
        """The last artifact of a type, if there is any."""
        return (self.artifacts.get(kind) or [None])[-1]


class Store:
    """A workspace's ML Metadata."""

    def __init__(self, connection: metadata_store_pb2.ConnectionConfig):
        self._store = mlmd.MetadataStore(connection)
        self._types = {t.id: t.name for t in self._store.get_artifact_types()}

    def of_version(self, version: int) -> Lineage:
        """Of the model that was pushed as a version. Raises InputError where none was."""
        for artifact in reversed(self._by_type("PushedModel")):
            if artifact.custom_properties["pushed_version"].string_value == str(version):
                return Lineage(version, self._around([artifact]))
        raise InputError(f"version {version} was not pushed by a run of this workspace.")

    def of_newest_run(self) -> Lineage:
        """Of what the newest run has made, as far as it came. Raises InputError where nothing has run."""
        try:
            run = max(self._store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
        except (ValueError, mlmd.errors.NotFoundError) as error:
            raise InputError("nothing has run in this workspace; `homefeed run` begins.") from error
        executions = [execution.id for execution in self._store.get_executions_by_context(run.id)]
        made = self._artifacts(executions, mlmd.proto.Event.OUTPUT)
        pushed = [a for a in made if self._types[a.type_id] == "PushedModel"]
        version = pushed[-1].custom_properties["pushed_version"].string_value if pushed else ""
        return Lineage(int(version) if version else None, self._around(made))

    def _by_type(self, name: str) -> list[Artifact]:
        return (
            sorted(self._store.get_artifacts_by_type(name), key=lambda a: a.id) if name in self._types.values() else []
        )

    def _around(self, artifacts: Iterable[Artifact]) -> dict[str, list[Artifact]]:
        """By type: the artifacts, all that they were made from, and what the same steps have made beside them."""
        found: dict[int, Artifact] = {}
        ahead = list(artifacts)
        while ahead:
            found |= {artifact.id: artifact for artifact in ahead}
            events = self._store.get_events_by_artifact_ids([artifact.id for artifact in ahead])
            makers = {event.execution_id for event in events if event.type == mlmd.proto.Event.OUTPUT}
            near = [*self._artifacts(makers, mlmd.proto.Event.INPUT), *self._artifacts(makers, mlmd.proto.Event.OUTPUT)]
            ahead = [artifact for artifact in near if artifact.id not in found]
        by_type: dict[str, list[Artifact]] = {}
        for _, artifact in sorted(found.items()):
            by_type.setdefault(self._types[artifact.type_id], []).append(artifact)
        return by_type

    def _artifacts(self, executions: Iterable[int], kind: int) -> list[Artifact]:
        events = self._store.get_events_by_execution_ids(list(executions))
        ids = sorted({event.artifact_id for event in events if event.type == kind})
        return list(self._store.get_artifacts_by_id(ids))
