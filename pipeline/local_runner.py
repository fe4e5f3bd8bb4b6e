"""Runs the DAG on this machine: one workspace folder, SQLite ML Metadata, TFX's LocalDagRunner."""

import dataclasses
import gc
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import psutil
from ml_metadata.proto import metadata_store_pb2
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.portable.launcher import Launcher

from components.data_gate import ERROR, explain, tables_at_fault
from components.input_folders import Table, inspect_table, window_of
from pipeline.config import Config
from pipeline.encoder_download import local_encoder
from pipeline.lineage import Store
from pipeline.outcome import Outcome, read_outcome
from pipeline.pipeline import Window, build_pipeline
from pipeline.places import Places, code_version, schemas_folder
from pipeline.report.page import report_file, write_report
from pipeline.staging import of_local_runs
from schema import errors, names
from trainer.encoder_files import fingerprint, resolve_encoder

DATA_GATE = "DataGate"
_LOOK_EVERY = 0.5  # seconds, at the memory that is held; a look takes some 3 ms


def run_locally(
    config: Config,
    folders: Mapping[str, str],
    workspace: str,
    until: str | None = None,
    keeps: Callable[[str, str], bool] = lambda table, day: True,
) -> Outcome:
    """Runs the whole pipeline.

    Args:
      config: checked configuration.
      folders: table -> input folder: behaviors, catalog and perhaps users.
      until: the last step that runs; None for all. A run until DataGate returns even where that refuses.
      keeps: (table, day's folder) -> whether it is used; the window counts from the last day that is.
      workspace: gets `artifacts/`, `cache/`, `logs/`, `metadata.sqlite`, `serving/homefeed/VERSION/` and, of each
        whole run, `reports/RUN.html`.

    Returns:
      What the run did, whether or not it pushed.

    Raises:
      InputError: an input folder, the encoder or the workspace cannot be used; nothing was written.
      GateRefused: DataGate blocked the data; nothing after it has run.
    """
    tables = {name: _kept(inspect_table(folder, name), name, keeps) for name, folder in folders.items()}
    root = Path(workspace).resolve()
    downloaded = local_encoder(config.encoder.path, config.encoder.sha256, str(root / "cache" / "encoders"))
    encoder = resolve_encoder(downloaded)
    with locked(root, ".lock", "another run is using this workspace; wait for it, or give another one"):
        push = root / "serving" / names.MODEL_NAME
        if config.model.start == names.REINDEX and not (push.is_dir() and any(push.iterdir())):
            raise errors.InputError(f"{push}: holds no pushed model to re-index; `homefeed run` trains one.")
        shared = config.beam.shared.rstrip("/")
        cache = f"{shared or root}/cache"  # which Beam's workers write to
        places = Places(
            pipeline_root=str(root / "artifacts"),
            cache=cache,
            embeddings=config.encoder.cache or f"{cache}/text_embeddings",
            schemas=schemas_folder(config),
            encoder=encoder,
            encoder_fingerprint=fingerprint(encoder, config.encoder.max_tokens),
            push=str(push),
            code_version=code_version(),
        )
        metadata = metadata_of(root)
        with _told(root) as (log, steps):
            try:
                memory = f"{root}/cache/fingerprints.json"
                windows = {
                    name: Window(table, window_of(table, config.window.days, memory)) for name, table in tables.items()
                }
                dag = build_pipeline(config, windows, places, metadata, until)
                with of_local_runs(shared), steps.of_launches(), _no_arguments(), _imports_set_aside():
                    LocalDagRunner().run(dag)
            except SystemExit as error:  # Beam's way of refusing options
                raise errors.InputError(f"beam.args: Beam does not take these options; see {log}.") from error
            except Exception as error:
                logging.exception("The run ended at %s.", steps.current)
                raise _as_ours(error, steps.current, log) from error
            finally:
                if until is None:  # a part of a run, such as `data validate`, tells what it has to in its own tables
                    _report(root, metadata, steps)
        outcome = read_outcome(metadata)
    refusals = [found for found in outcome.findings if found["severity"] == ERROR]
    if refusals and until != DATA_GATE:
        reasons = " ".join(map(explain, refusals))
        raise errors.GateRefused(f"the data gate refused the data. {reasons}", tables_at_fault(refusals))
    return outcome


def metadata_of(workspace: Path) -> metadata_store_pb2.ConnectionConfig:
    """The connection to a workspace's ML Metadata."""
    return sqlite_metadata_connection_config(str(workspace / "metadata.sqlite"))


def _report(root: Path, metadata: metadata_store_pb2.ConnectionConfig, steps: "_Steps") -> None:
    """Writes the run's report. One that cannot be written is told in the log: the run is what it is without it."""
    if not steps.peaks:
        return
    try:
        store = Store(metadata)
        store.note_memory(steps.peaks)
        out = report_file(root, [store.newest_run()])
        steps.say(f"Report: {write_report(store, root / 'serving', out)}")
    except Exception:
        logging.exception("The report could not be written.")


def _kept(table: Table, name: str, keeps: Callable[[str, str], bool]) -> Table:
    spans = {day: files for day, files in table.spans.items() if keeps(name, day)}
    if not spans:
        raise errors.InputError(f"{table.base}: holds no day of {name} that is to be used.")
    return dataclasses.replace(table, spans=spans)


def _as_ours(error: Exception, step: str, log: Path) -> errors.HomefeedError:
    """The error of ours that TFX or Beam has wrapped, as an exception or only as text; else one that names the log."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, errors.HomefeedError):
            return cause
        cause = cause.__cause__ or cause.__context__
    found = re.search(r"schema\.errors\.(InputError|GateRefused): (.+)", str(error))
    if found:
        return getattr(errors, found[1])(found[2].split(" [while running")[0])
    what = (str(error).strip().splitlines() or [""])[-1][:300]
    return errors.HomefeedError(f"{step} failed ({type(error).__name__}: {what}); see {log}.")


@contextmanager
def locked(root: Path, name: str, taken: str) -> Iterator[None]:
    """Holds the workspace by a file of this name. Raises InputError where it cannot be written, or, with the words of
    `taken`, where another process holds it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / name)
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise errors.InputError(f"{root}: {taken}.") from error
    except OSError as error:
        raise errors.InputError(f"{root}: cannot be written ({error.strerror}); give another --workspace.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told(root: Path) -> Iterator[tuple[Path, "_Steps"]]:
    """Sends everything to a log file in the workspace; the terminal gets a line a step and lines of progress."""
    folder = root / "logs"
    folder.mkdir(exist_ok=True)
    path = folder / time.strftime("run-%Y%m%d-%H%M%S.log")
    content = path.open("w", encoding="utf-8")
    file = logging.StreamHandler(content)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    sys.stderr.flush()
    terminal = os.dup(2)  # C++ code prints to the descriptor itself, so that is what goes to the file
    os.dup2(content.fileno(), 2)
    with os.fdopen(terminal, "w") as stream:
        steps = _Steps(Console(file=stream, highlight=False))
        loggers = [logging.getLogger(), *(logging.getLogger(name) for name in ("absl", "tensorflow"))]
        before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
        try:
            for logger in loggers:
                logger.handlers[:] = []
                logger.setLevel(logging.INFO)
            loggers[0].handlers[:] = [file, steps]
            yield path, steps
        finally:
            for logger, handlers, level in before:
                logger.handlers[:] = handlers
                logger.setLevel(level)
            sys.stderr.flush()
            os.dup2(terminal, 2)
            content.close()


@contextmanager
def _imports_set_aside() -> Iterator[None]:
    """Spares Python's garbage collector the million objects that importing TFX leaves: looking through them again and
    again takes a twentieth of a short run."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _no_arguments() -> Iterator[None]:
    """Hides the command line: TFX's Beam executors read it for absl's flags, as if it were theirs."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


class _Steps(logging.Handler):
    """Tells which step runs, for how long it did, and what steps say of their progress."""

    def __init__(self, console: Console):
        super().__init__()
        self._console = console
        self._bar: Progress | None = None
        self.current = "the pipeline's construction"
        self.peaks: dict[str, float] = {}  # step -> MB

    def say(self, what: str) -> None:
        """Prints a line."""
        self._console.print(what, soft_wrap=True)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "homefeed.progress":
            return
        share: tuple[int, int] | None = getattr(record, "share", None)  # (done, of how many)
        if share is None:
            self._end_bar()
            self._console.print(f"  {record.getMessage()}", style="dim")
        elif self._console.is_terminal:  # a file is spared what is only of the moment
            if self._bar is None:
                columns = (TextColumn("  {task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
                self._bar = Progress(*columns, console=self._console, transient=True)
                self._bar.start()
                self._bar.add_task("")
            self._bar.update(self._bar.task_ids[0], description=record.getMessage(), completed=share[0], total=share[1])

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @contextmanager
    def of_launches(self) -> Iterator[None]:
        """Tells of every node that TFX's launcher launches; TFX has no hook for it."""
        launch = Launcher.launch

        def told(launcher: Launcher) -> Any:
            self.current = launcher._pipeline_node.node_info.id
            self._console.print(f"[bold]{self.current}[/bold] …")
            start = time.monotonic()
            try:
                with _watched() as peak:
                    execution = launch(launcher)
            finally:
                self.peaks[self.current] = peak[0] / 2**20
                self._end_bar()
            self._console.print(f"  done in {time.monotonic() - start:.1f} s", style="dim")
            return execution

        Launcher.launch = told
        try:
            yield
        finally:
            Launcher.launch = launch


@contextmanager
def _watched() -> Iterator[list[float]]:
    """Gives the most memory, in bytes, that this process and those it has started held meanwhile."""
    peak, own, is_over = [0.0], psutil.Process(), threading.Event()

    def look() -> None:
        while True:
            held = 0
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.Error):
                    held += process.memory_info().rss
            peak[0] = max(peak[0], held)
            if is_over.wait(_LOOK_EVERY):
                return

    thread = threading.Thread(target=look, name="memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()
