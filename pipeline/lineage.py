"""What ML Metadata knows of a model: the run that made it, the version it was pushed as, and all that it came from."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from schema.errors import InputError

Artifact: TypeAlias = metadata_store_pb2.Artifact
_STATES = {mlmd.proto.Execution.CACHED: "cached", mlmd.proto.Execution.COMPLETE: "ran"}
_RUN = "pipeline_run"  # TFX's type of context
_MEMORY = "peak_memory_mb"  # of a run: JSON, step -> MB


@dataclass(frozen=True)
class Step:
    """What one step of a run did.

    Attributes:
      name: the node's id.
      state: `ran`, `cached` or `failed`.
      seconds: how long it took.
      peak_mb: the most memory, in MB, that the run's processes held meanwhile; None where nobody has looked.
      inputs, outputs: channel -> artifacts, in order.
    """

    name: str
    state: str
    seconds: float
    peak_mb: float | None
    inputs: dict[str, list[Artifact]]
    outputs: dict[str, list[Artifact]]


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
        return Lineage(version, self._around([self._pushed(version)]))

    def of_run(self, run: str = "") -> Lineage:
        """Of what a run has made, as far as it came; of the newest where none is named. Raises InputError where there
        is none."""
        executions = [execution.id for execution in self._store.get_executions_by_context(self._run(run).id)]
        made = self._artifacts(executions, mlmd.proto.Event.OUTPUT)
        pushed = [a for a in made if self._types[a.type_id] == "PushedModel"]
        return Lineage(_version(pushed[-1]) if pushed else None, self._around(made))

    def newest_run(self) -> str:
        """Its name. Raises InputError where nothing has run."""
        return self._run("").name

    def run_of(self, version: int) -> str:
        """The last run that had a version as its push. Raises InputError where none did."""
        contexts = [
            context
            for maker in self._makers([self._pushed(version)])
            for context in self._store.get_contexts_by_execution(maker)
        ]
        return max((c for c in contexts if c.type == _RUN), key=lambda context: context.id).name

    def steps(self, run: str = "") -> list[Step]:
        """A run's steps, in order; the newest run's where none is named. Raises InputError where there is none."""
        found = self._run(run)
        memory = json.loads(found.custom_properties[_MEMORY].string_value or "{}")
        executions = sorted(self._store.get_executions_by_context(found.id), key=lambda execution: execution.id)
        return [self._step(execution, memory) for execution in executions]

    def pushed_versions(self) -> list[int]:
        """Versions that runs have pushed, newest first."""
        pushed = reversed(self._by_type("PushedModel"))
        return [version for artifact in pushed if (version := _version(artifact)) is not None]

    def superseded(self, keep: int, labelled: Collection[int]) -> list[Artifact]:
        """Artifacts of the runs before the one that first pushed the `keep`-th newest version: those that no run since
        has read or written, and none that pushed a version of `labelled`. None as long as fewer were pushed."""
        pushed = self.pushed_versions()
        if len(pushed) < keep:
            return []
        runs = [self._touched(run) for run in self._runs()]
        first = next(at for at, (_, versions) in enumerate(runs) if pushed[keep - 1] in versions)
        needed = {
            number
            for at, (artifacts, versions) in enumerate(runs)
            for number in artifacts
            if at >= first or versions & set(labelled)
        }
        every = {number: artifact for artifacts, _ in runs for number, artifact in artifacts.items()}
        return [artifact for number, artifact in sorted(every.items()) if number not in needed]

    def mark_deleted(self, artifacts: Sequence[Artifact]) -> None:
        """Says that artifacts are gone, so that TFX neither resolves them nor takes them from its cache."""
        for artifact in artifacts:
            artifact.state = Artifact.DELETED
        self._store.put_artifacts(artifacts)

    def note_memory(self, peaks: Mapping[str, float]) -> None:
        """Keeps with the newest run the most memory that each step took, in MB."""
        run = self._run("")
        run.custom_properties[_MEMORY].string_value = json.dumps(peaks)
        self._store.put_contexts([run])

    def kind_of(self, artifact: Artifact) -> str:
        """The name of an artifact's type."""
        return self._types[artifact.type_id]

    def _pushed(self, version: int) -> Artifact:
        for artifact in reversed(self._by_type("PushedModel")):
            if _version(artifact) == version:
                return artifact
        raise InputError(f"version {version} was not pushed by a run of this workspace.")

    def _runs(self) -> list[metadata_store_pb2.Context]:
        try:
            return sorted(self._store.get_contexts_by_type(_RUN), key=lambda context: context.id)
        except mlmd.errors.NotFoundError:
            return []

    def _run(self, name: str) -> metadata_store_pb2.Context:
        runs = self._runs()
        if not runs:
            raise InputError("nothing has run in this workspace; `homefeed run` begins.")
        named = [run for run in runs if name in ("", run.name)]
        if not named:
            raise InputError(f"{name}: is no run of this workspace; they are {', '.join(run.name for run in runs)}.")
        return named[-1]

    def _step(self, execution: metadata_store_pb2.Execution, memory: Mapping[str, float]) -> Step:
        contexts = {c.type: c.name for c in self._store.get_contexts_by_execution(execution.id)}
        name = contexts["node"].rsplit(".", 1)[-1]
        events = self._store.get_events_by_execution_ids([execution.id])
        ids = [event.artifact_id for event in events]
        by_id = {artifact.id: artifact for artifact in self._store.get_artifacts_by_id(ids)}
        channels: dict[int, dict[str, list[Artifact]]] = {mlmd.proto.Event.INPUT: {}, mlmd.proto.Event.OUTPUT: {}}
        for event in events:
            if event.type in channels and event.path.steps:
                channels[event.type].setdefault(event.path.steps[0].key, []).append(by_id[event.artifact_id])
        return Step(
            name,
            _STATES.get(execution.last_known_state, "failed"),
            (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000,
            memory.get(name),
            channels[mlmd.proto.Event.INPUT],
            channels[mlmd.proto.Event.OUTPUT],
        )

    def _touched(self, run: metadata_store_pb2.Context) -> tuple[dict[int, Artifact], set[int | None]]:
        """What a run has read or written, and the version that it has pushed."""
        executions = [execution.id for execution in self._store.get_executions_by_context(run.id)]
        made = self._artifacts(executions, mlmd.proto.Event.OUTPUT)
        touched = {a.id: a for a in (*made, *self._artifacts(executions, mlmd.proto.Event.INPUT))}
        return touched, {_version(artifact) for artifact in made if self.kind_of(artifact) == "PushedModel"}

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
            makers = self._makers(ahead)
            near = [*self._artifacts(makers, mlmd.proto.Event.INPUT), *self._artifacts(makers, mlmd.proto.Event.OUTPUT)]
            ahead = [artifact for artifact in near if artifact.id not in found]
        by_type: dict[str, list[Artifact]] = {}
        for _, artifact in sorted(found.items()):
            by_type.setdefault(self._types[artifact.type_id], []).append(artifact)
        return by_type

    def _makers(self, artifacts: Iterable[Artifact]) -> set[int]:
        """The executions that artifacts are outputs of."""
        events = self._store.get_events_by_artifact_ids([artifact.id for artifact in artifacts])
        return {event.execution_id for event in events if event.type == mlmd.proto.Event.OUTPUT}

    def _artifacts(self, executions: Iterable[int], kind: int) -> list[Artifact]:
        events = self._store.get_events_by_execution_ids(list(executions))
        ids = sorted({event.artifact_id for event in events if event.type == kind})
        return list(self._store.get_artifacts_by_id(ids))


def _version(pushed: Artifact) -> int | None:
    """That a PushedModel was pushed as; None where it was not."""
    # To look a property up with [] is to add it, and ML Metadata ends the process where it gets one without a value.
    found = pushed.custom_properties
    return int(found["pushed_version"].string_value) if "pushed_version" in found else None
