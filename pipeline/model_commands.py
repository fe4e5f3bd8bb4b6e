"""What is asked of models: `homefeed gate`, `report`, `release`, `rollback`, `compare`, `drift`, `status`, `prune`."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipeline.options import with_options
from schema import names
from schema.errors import GateRefused, InputError


@click.command()
@click.option("--workspace", required=True, help="Of the run that made the model.")
@click.option("--candidate", type=click.IntRange(0), help="A pushed version; without it, what the newest run has made.")
@click.option("--json", "as_json", is_flag=True, help="The verdict with all evidence, as JSON.")
@click.option("--all", "everything", is_flag=True, help="Also show the evidence that speaks for the model.")
def gate(workspace: str, candidate: int | None, as_json: bool, everything: bool) -> None:
    """The verdict of every gate on a model. Exit code 3 where one has said no: made for release jobs.

    Example: homefeed gate --workspace w --json
    """
    from pipeline.gate import judge, print_judgement
    from pipeline.outcome import wide_console

    judgement = judge(*_records(workspace), candidate)
    if as_json:
        click.echo(judgement.as_json())
    else:
        print_judgement(judgement, wide_console(), everything)
    if not judgement.passed:
        raise GateRefused(" ".join(judgement.reasons))


def _records(workspace: str) -> tuple[Any, Path]:
    """A workspace's ML Metadata and its folder of pushed versions. Raises InputError where there is none."""
    from pipeline.lineage import Store
    from pipeline.local_runner import metadata_of

    root = Path(workspace)
    if not (root / "metadata.sqlite").is_file():
        raise InputError(f"{workspace}: is no workspace; give the one of a `homefeed run`.")
    return Store(metadata_of(root.resolve())), root / "serving"


_of_a_release = with_options(
    [
        click.option("--workspace", required=True, help="Whose pushed versions they are."),
        click.option("--why", default="", help="For the log."),
        click.option("--who", default="", help="For the log; without it, the user of this machine."),
        click.option("--address", "addresses", multiple=True, help="grpc://HOST:PORT of a server to tell at once."),
    ]
)


@click.command()
@click.option("--workspace", required=True, help="Of the runs.")
@click.option("--run", "name", default="", help="A run's name or a pushed version; without it, the newest run.")
@click.option("--compare", nargs=2, default=None, help="Two runs or versions, side by side.")
@click.option("--out", help="The file; without it, in the workspace's reports/.")
def report(workspace: str, name: str, compare: tuple[str, str] | None, out: str | None) -> None:
    """Writes one HTML file of a run: data, anomalies, drift, training, metrics, verdicts, index, steps and lineage. A
    run leaves its own; this one brings it up to date, or sets two beside each other.

    Example: homefeed report --workspace w --compare 1795336804 1795337913
    """
    from pipeline.report.page import report_file, write_report

    store, serving = _records(workspace)
    asked = compare or (name or store.newest_run(),)
    runs = [store.run_of(int(one)) if one.isdecimal() else one for one in asked]
    file = Path(out) if out else report_file(Path(workspace), runs)
    click.echo(f"Report: {write_report(store, serving, file, runs)}")


@click.command()
@_of_a_release
@click.option("--candidate", type=click.IntRange(0), help="A pushed version; without it, the newest.")
@click.option("--to", "label", type=click.Choice(["canary", "stable"]), default="stable")
def release(workspace: str, candidate: int | None, label: str, **options: Any) -> None:
    """Makes a pushed version canary or stable, if every gate lets it pass; the stable one before becomes previous.

    Example: homefeed release --workspace w --to canary --why "new season"
    """
    from pipeline.gate import judge
    from serving.releases import Releases
    from serving.versions import versions_in

    store, serving = _records(workspace)
    newest = next(iter(versions_in(serving / names.MODEL_NAME)), 0)
    version = newest if candidate is None else candidate
    entry = Releases(serving).release(
        version, label, refusals=lambda asked: judge(store, serving, asked).reasons, **options
    )
    _tell_release(entry, serving)


@click.command()
@_of_a_release
@click.option("--canary", "is_withdrawal", is_flag=True, help="Take the canary back instead; stable stays.")
def rollback(workspace: str, is_withdrawal: bool, **options: Any) -> None:
    """Makes the previous version stable again.

    Example: homefeed rollback --workspace w --why "fewer clicks"
    """
    from serving.releases import Releases

    serving = Path(workspace) / "serving"
    releases = Releases(serving)
    _tell_release((releases.withdraw if is_withdrawal else releases.rollback)(**options), serving)


@click.command()
@click.option("--logs", required=True, help="Folder that the experiment has logged to (serving/experiment.py).")
@click.option("--experiment", required=True, help="Its name.")
@click.option("--control", default="stable", help="The arm that is compared with.")
@click.option("--treatment", default="canary", help="The arm that is compared.")
@click.option("--share", default=0.5, type=click.FloatRange(0, 1), help="Of the treatment among both arms' users.")
@click.option("--event", "events", multiple=True, default=("click=1",), help="EVENT=WEIGHT: what a request earns.")
@click.option("--confidence", default=0.95, type=click.FloatRange(0.5, 0.9999))
@click.option("--effect", default=0.05, help="The relative difference that one hopes for, fixed before the experiment.")
@click.option("--json", "as_json", is_flag=True)
def compare(logs: str, experiment: str, control: str, treatment: str, **options: Any) -> None:
    """What two arms of an online experiment earned a request, with intervals, of which one may be looked at every day.

    Example: homefeed compare --logs logs --experiment canary-7 --event click=1 --event purchase=10
    """
    from pipeline.online_comparison import compare_logs

    compare_logs(Path(logs), experiment, control, treatment, Console(), **options)


def _tell_release(entry: Any, serving: Path) -> None:
    click.echo(f"{entry}. Servers read {serving / 'models.config'}.")


@click.command()
@click.option("--workspace", required=True, help="Of the run whose training data is compared with.")
@click.option("--requests", required=True, help="Folder that `homefeed serve --request_log_folder` has written.")
@click.option("--bound", default=0.1, type=click.FloatRange(0, 1), help="Distance of a feature that is too far.")
@click.option("--json", "as_json", is_flag=True)
def drift(workspace: str, requests: str, bound: float, as_json: bool) -> None:
    """How far what is asked of a server is from what the model was trained on. Exit code 3 where a feature is too far.

    Example: homefeed drift --workspace w --requests requests
    """
    from dataclasses import asdict

    from pipeline.drift import drift as compare_with_training
    from pipeline.drift import print_drift

    distances, facts = compare_with_training(_records(workspace)[0], requests, bound)
    if as_json:
        click.echo(json.dumps({"facts": facts, "distances": [asdict(one) for one in distances]}, indent=1))
    else:
        print_drift(distances, facts, Console())
    far = [one.feature for one in distances if one.is_far]
    if far:
        raise GateRefused(f"requests are not like the training data in {', '.join(far)}.")


@click.command()
@click.option("--workspace", required=True, help="Whose pushed versions they are.")
@click.option("--address", "addresses", multiple=True, help="Of a server, to see what it serves.")
@click.option("--last", default=10, type=click.IntRange(1), help="Releases that are shown.")
def status(workspace: str, addresses: tuple[str, ...], last: int) -> None:
    """Which versions there are, under which labels, and the last releases.

    Example: homefeed status --workspace w --address grpc://localhost:8500
    """
    from pipeline.outcome import wide_console
    from pipeline.release_status import print_status

    print_status(*_records(workspace), addresses, last, wide_console())


@click.command()
@click.option("--workspace", required=True, help="Of the runs.")
@click.option("--keep", default=10, type=click.IntRange(1), help="Of the pushed versions, the newest so many.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Only tell what would be removed.")
def prune(workspace: str, keep: int, is_dry: bool) -> None:
    """Removes old versions of the model, and what their runs have read and written. Versions with a label stay, and so
    does the evidence of every run: verdicts, metrics, statistics, model cards and reports.

    Example: homefeed prune --workspace w --keep 5
    """
    from pipeline.retention import prune as remove_old

    _records(workspace)
    removal = remove_old(workspace, keep, is_dry)
    click.echo(f"{'Would remove' if is_dry else 'Removed'} {removal}.")
