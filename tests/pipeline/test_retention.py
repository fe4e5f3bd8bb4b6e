"""What is removed of old runs, and what stays whatever happens: on ML Metadata like TFX's, without a pipeline."""

import shutil
from pathlib import Path

import filelock
import ml_metadata as mlmd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline import retention
from pipeline.cli import homefeed
from pipeline.local_runner import metadata_of
from pipeline.retention import prune
from schema.errors import HomefeedError, InputError
from serving.releases import STABLE, Releases
from serving.versions import versions_in

EVENT = mlmd.proto.Event


class Workspace:
    """Runs of four steps: examples, a model that goes on from the last pushed one, its evaluation and its push."""

    def __init__(self, root: Path):
        self.root, self.store = root, mlmd.MetadataStore(metadata_of(root), enable_upgrade_migration=False)
        self.made: list[set[Path]] = []  # by run: folders of whatever it has read or written
        self.version = 100
        self._pushes: list[int] = []  # by run: its version, 0 where it has none
        self._pushed: mlmd.proto.Artifact | None = None
        self._models: dict[int, mlmd.proto.Artifact] = {}
        kind = mlmd.proto.ContextType(name="pipeline_run")
        self._run_type = self.store.put_context_type(kind)
        self._step_type = self.store.put_execution_type(mlmd.proto.ExecutionType(name="step"))
        self._types = {
            name: self.store.put_artifact_type(mlmd.proto.ArtifactType(name=name))
            for name in ("Examples", "Model", "ModelEvaluation", "PushedModel")
        }

    @property
    def versions(self) -> list[int]:
        return versions_in(self.root / "serving" / "homefeed")

    def run(self, what: str) -> None:
        """`pushed`, `refused` (a model that is not pushed) or `cached` (nothing new: the last push is its own)."""
        number = len(self.made)
        run = mlmd.proto.Context(name=f"run-{number}", type_id=self._run_type)
        [context] = self.store.put_contexts([run])
        if what == "cached" and self._pushed is not None:
            self._execute(context, [self._models[self._pushed.id]], [self._pushed])
            self.made.append(_folders(self._models[self._pushed.id], self._pushed))
            self._pushes.append(self.version)
            return
        examples, model = self._artifact("Examples", number), self._artifact("Model", number)
        evaluation, pushed = self._artifact("ModelEvaluation", number), self._artifact("PushedModel", number)
        before = [self._models[self._pushed.id]] if self._pushed is not None else []
        self._execute(context, [], [examples])
        self._execute(context, [examples, *before], [model])
        self._execute(context, [examples, model, *before], [evaluation])
        is_pushed = what == "pushed"
        if is_pushed:
            self.version += 1
            folder = self.root / "serving" / "homefeed" / str(self.version)
            folder.mkdir(parents=True)
            (folder / "saved_model.pb").write_text("model")
            pushed.custom_properties["pushed_version"].string_value = str(self.version)
        pushed.custom_properties["pushed"].int_value = int(is_pushed)
        self._execute(context, [model], [pushed])
        self.made.append(_folders(examples, model, evaluation, pushed, *before))
        self._pushes.append(self.version if is_pushed else 0)
        if is_pushed:
            self._pushed = pushed
            self._models[pushed.id] = model

    def _artifact(self, kind: str, number: int) -> mlmd.proto.Artifact:
        folder = self.root / "artifacts" / kind / str(number)
        folder.mkdir(parents=True)
        (folder / "file").write_text("0123456789")
        return mlmd.proto.Artifact(uri=str(folder), type_id=self._types[kind], state=mlmd.proto.Artifact.LIVE)

    def runs_of(self, version: int) -> list[int]:
        return [at for at, pushed in enumerate(self._pushes) if pushed == version]

    def _execute(self, context: int, read: list[mlmd.proto.Artifact], written: list[mlmd.proto.Artifact]) -> None:
        step = mlmd.proto.Execution(type_id=self._step_type, last_known_state=mlmd.proto.Execution.COMPLETE)
        pairs = [
            *((artifact, EVENT(type=EVENT.INPUT)) for artifact in read),
            *((artifact, EVENT(type=EVENT.OUTPUT)) for artifact in written),
        ]
        _, ids, _ = self.store.put_execution(step, pairs, [self.store.get_contexts_by_id([context])[0]])
        for (artifact, _), number in zip(pairs, ids, strict=True):
            artifact.id = number

    def folders(self) -> set[Path]:
        return {path for path in (self.root / "artifacts").glob("*/*") if path.is_dir()}

    def deleted(self) -> set[str]:
        return {a.uri for a in self.store.get_artifacts() if a.state == mlmd.proto.Artifact.DELETED}


def _folders(*artifacts: mlmd.proto.Artifact) -> set[Path]:
    return {Path(artifact.uri) for artifact in artifacts}


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def runs(workspace, *whats):
    for what in whats:
        workspace.run(what)


@given(
    st.lists(st.sampled_from(["pushed", "refused", "cached"]), min_size=1, max_size=7),
    st.integers(1, 4),
    st.none() | st.integers(0, 6),
)
def test_what_is_needed_stays_and_what_is_not_goes(tmp_path_factory, whats, keep, labelled):
    workspace = Workspace(tmp_path_factory.mktemp("w"))
    runs(workspace, *whats)
    versions, folders = workspace.versions, workspace.folders()
    labels = {versions[labelled % len(versions)]} if labelled is not None and versions else set()
    for version in labels:
        Releases(workspace.root / "serving").release(version, STABLE, "")
    told = prune(workspace.root, keep, is_dry=True)
    assert workspace.versions == versions and workspace.folders() == folders and not workspace.deleted()
    assert prune(workspace.root, keep) == told
    assert prune(workspace.root, keep) == retention.Removal((), 0, 0)
    assert set(workspace.versions) == {*versions[:keep], *labels}
    gone = folders - workspace.folders()
    assert told.artifacts == len(gone) and told.size == 10 * len(gone) + 5 * (len(versions) - len(workspace.versions))
    assert workspace.deleted() == set(map(str, gone))
    assert not any(path.parent.name == "ModelEvaluation" for path in gone)
    pushes = [at for at, what in enumerate(whats) if what == "pushed"]
    if len(pushes) < keep:
        assert not gone
        return
    kept = {at for version in labels for at in workspace.runs_of(version)} | set(range(pushes[-keep], len(whats)))
    needed = {path for at in kept for path in workspace.made[at]}
    assert gone == {path for path in folders - needed if path.parent.name != "ModelEvaluation"}


def test_a_removal_that_was_killed_is_completed_by_the_next(workspace, monkeypatch):
    runs(workspace, "pushed", "pushed", "pushed")
    keeping = {path for path in workspace.folders() if path.parent.name == "ModelEvaluation"}

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(workspace.root, 1)
    assert workspace.versions[:1] == [103]
    monkeypatch.undo()
    remove, removed = shutil.rmtree, []

    def killed_at_the_third(path):
        if len(removed) == 2:
            raise KeyboardInterrupt
        removed.append(path)
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prune(workspace.root, 1)
    monkeypatch.undo()
    prune(workspace.root, 1)
    assert workspace.versions == [103] and not list((workspace.root / "serving" / "homefeed").glob(".*"))
    assert workspace.folders() == keeping | workspace.made[-1]  # with the model that it went on from


def test_what_came_from_elsewhere_stays(workspace, tmp_path_factory):
    runs(workspace, "pushed", "pushed")
    by_hand = workspace.root / "serving" / "homefeed" / "7"
    by_hand.mkdir()
    (by_hand / "saved_model.pb").touch()
    folders = workspace.folders()
    copy = tmp_path_factory.mktemp("copy")
    shutil.copy(workspace.root / "metadata.sqlite", copy)
    shutil.copytree(workspace.root / "serving", copy / "serving")
    assert prune(copy, 1).versions == (101,)
    assert workspace.folders() == folders and workspace.versions == [102, 101, 7]
    assert prune(workspace.root, 1).versions == (101,) and workspace.versions == [102, 7]


def test_a_rollback_does_not_lead_to_what_was_removed(workspace):
    runs(workspace, *["pushed"] * 4)
    releases = Releases(workspace.root / "serving")
    for version in (101, 102, 103, 104):
        releases.release(version, STABLE, "")
    prune(workspace.root, 1)
    assert sorted(workspace.versions) == [103, 104]  # stable and previous
    releases.rollback("clicks fell")
    assert releases.labels() == {STABLE: 103}


def test_nothing_is_removed_under_a_run_or_a_release(workspace):
    runs(workspace, "pushed", "pushed")
    with filelock.FileLock(workspace.root / ".lock"), pytest.raises(InputError, match="a run is using"):
        prune(workspace.root, 1)
    with (
        filelock.FileLock(workspace.root / "serving" / ".release.lock"),
        pytest.raises(HomefeedError, match="another release"),
    ):
        prune(workspace.root, 1)
    with pytest.raises(ValueError, match="at least one"):
        prune(workspace.root, 0)
    assert len(workspace.versions) == 2


def test_the_command_tells_what_goes(workspace):
    def call(*arguments):
        return CliRunner().invoke(homefeed, ["prune", *arguments])

    runs(workspace, "pushed", "pushed", "pushed")
    where = ("--workspace", str(workspace.root), "--keep", "2")
    assert call(*where, "--dry-run").output == "Would remove 1 versions (101) and 2 artifacts, 25 bytes.\n"
    assert call(*where).output == "Removed 1 versions (101) and 2 artifacts, 25 bytes.\n"
    assert call(*where).output == "Removed 0 versions and 0 artifacts, 0 bytes.\n"
    assert isinstance(call("--workspace", str(workspace.root / "none")).exception, InputError)
    assert call(*where[:2], "--keep", "0").exit_code == 2
