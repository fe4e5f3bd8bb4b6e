"""What runs leave that nothing needs any more, and its removal: old versions of the model, and old runs' artifacts.

Evidence stays for ever, being small: verdicts, metrics, statistics, curves, cards and reports. So does whatever has a
label, or could be trained on from or compared with. A removal that was killed is completed by the next.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from components.artifacts import DataBlessing, ModelCards, RowAnomalies, RunReports
from pipeline.lineage import Artifact, Store
from pipeline.local_runner import locked, metadata_of
from schema import names
from serving.releases import Releases
from serving.versions import versions_in

EVIDENCE = frozenset(
    {
        "ExampleAnomalies",
        "ExampleStatistics",
        "InfraBlessing",
        "ModelBlessing",
        "ModelEvaluation",
        "ModelRun",
        "Schema",
        *(kind.TYPE_NAME for kind in (DataBlessing, ModelCards, RowAnomalies, RunReports)),
    }
)


@dataclass(frozen=True)
class Removal:
    """What was removed, or would be.

    Attributes:
      versions: of the model, newest first.
      artifacts: how many.
      size: bytes.
    """

    versions: tuple[int, ...]
    artifacts: int
    size: int

    def __str__(self) -> str:
        versions = f" ({', '.join(map(str, self.versions))})" if self.versions else ""
        return f"{len(self.versions)} versions{versions} and {self.artifacts} artifacts, {decimal(self.size)}"


def prune(workspace: str | Path, keep: int, is_dry: bool = False) -> Removal:
    """Removes what is older than the newest versions.

    What stays: the newest `keep` versions that runs of this workspace have pushed, versions with a label (`canary`,
    `stable`, `previous`), versions that came from elsewhere; and of all runs since the oldest of the newest, and of
    those that pushed what has a label, whatever they have read or written. Evidence of all runs stays.

    Args:
      workspace: of the runs.
      keep: versions, at least 1.
      is_dry: nothing is removed, and told what would be.

    Raises:
      ValueError: `keep` is less than 1, which would leave nothing to serve.
      InputError: a run is using the workspace. HomefeedError: a release is going on.
    """
    if keep < 1:
        raise ValueError("keep: at least one version stays.")
    root = Path(workspace).resolve()
    with locked(root, ".lock", "a run is using this workspace; ask again when it is done"):
        store, releases = Store(metadata_of(root)), Releases(root / "serving")
        with releases.alone():
            labelled, pushed = releases.labels().values(), store.pushed_versions()
            base = root / "serving" / names.MODEL_NAME
            there = set(versions_in(base)) - set(labelled)
            versions = [version for version in pushed[keep:] if version in there]
            artifacts = [a for a in store.superseded(keep, labelled) if _may_go(a, store, root / "artifacts")]
            size = sum(map(_size, (*(base / str(version) for version in versions), *(Path(a.uri) for a in artifacts))))
            if not is_dry:
                _remove_versions(base, versions)
                store.mark_deleted(artifacts)  # first, so that no run takes what is half there for what it was
                for artifact in artifacts:
                    shutil.rmtree(artifact.uri)
    return Removal(tuple(versions), len(artifacts), size)


def _may_go(artifact: Artifact, store: Store, folder: Path) -> bool:
    """Whether it is there and no evidence. What is not below `folder` stays: it is another workspace's, which this one
    was copied from."""
    path = Path(artifact.uri)
    return store.kind_of(artifact) not in EVIDENCE and folder in path.parents and path.is_dir()


def _remove_versions(base: Path, versions: Sequence[int]) -> None:
    """Removes versions, each under another name, so that no server takes what is half there for a version."""
    for version in versions:
        (base / str(version)).rename(base / f".old-{version}")
    for left in base.glob(".old-*"):  # also of a removal that was killed
        shutil.rmtree(left)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
