"""The command line. Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration, 3 a gate said no.

TensorFlow and TFX are imported by the commands that need them, so that `--help` answers at once.
"""

import datetime as dt
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import pipeline.quiet  # noqa: F401  (before anything imports TensorFlow)
from pipeline.kubeflow.commands import compile_command, replay, schedule, submit
from schema import names
from schema.errors import GateRefused, HomefeedError, InputError
from serving.flags import Flags


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="homefeed")
def homefeed() -> None:
    """A personalised home feed from a behaviour log: validate, train, gate, push, serve."""


@homefeed.group()
def data() -> None:
    """Writes a data set in homefeed's form: behaviors/ and catalog/.

    Example: homefeed data sample --out shop
    """


def _day(_: Any, option: click.Parameter, value: str | None) -> dt.date | None:
    try:
        return dt.date.fromisoformat(value) if value else None
    except ValueError as error:
        raise click.BadParameter("a day is written YYYY-MM-DD", param=option) from error


@data.command()
@click.option("--out", required=True, help="Folder that gets behaviors/ and catalog/.")
@click.option("--events", default=60_000, type=click.IntRange(1), help="About how many rows.")
@click.option("--users", default=1_500, type=click.IntRange(1))
@click.option("--products", default=2_000, type=click.IntRange(1))
@click.option("--days", default=56, type=click.IntRange(1))
@click.option("--seed", default=1, type=int, help="The same seed gives the same files.")
def sample(out: str, events: int, users: int, products: int, days: int, seed: int) -> None:
    """A generated shop of any size.

    Example: homefeed data sample --out shop --events 100000
    """
    from pipeline.data.sample import write_sample

    _print_counts(write_sample(out, events, users, products, days, seed), out)


@data.command("online-retail")
@click.option("--out", required=True, help="Folder that gets behaviors/ and catalog/.")
@click.option("--archive", help="The publisher's zip; downloaded where none is given.")
@click.option("--from", "start", callback=_day, help="First day that is written.")
@click.option("--until", callback=_day, help="First day that is not written any more.")
@click.option("--everything", is_flag=True, help="Also what is no product or has no customer, for `data validate`.")
def online_retail(
    out: str, archive: str | None, start: dt.date | None, until: dt.date | None, everything: bool
) -> None:
    """UCI Online Retail: a year of a gift shop's sales, in daily folders.

    Example: homefeed data online-retail --out retail --archive online-retail.zip
    """
    from pipeline.data.online_retail import write_online_retail

    _print_counts(write_online_retail(out, archive, start, until, everything), out)


@data.command()
@click.option("--out", required=True, help="Folder that gets behaviors/ and catalog/.")
@click.option("--archive", help="The publisher's zip; downloaded where none is given.")
def movielens(out: str, archive: str | None) -> None:
    """MovieLens ml-latest-small: ratings and tags of films.

    Example: homefeed data movielens --out films
    """
    from pipeline.data.movielens import write_movielens

    _print_counts(write_movielens(out, archive), out)


@data.command()
@click.argument("folder")
@click.option("--workspace", help="Keeps what was read, for the run that follows; without it nothing is kept.")
@click.option("--config", "config_file", help="YAML file.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Changes one key of the configuration.")
@click.option("--all", "with_info", is_flag=True, help="Also show what is within its bounds.")
def validate(
    folder: str, workspace: str | None, config_file: str | None, assignments: tuple[str, ...], with_info: bool
) -> None:
    """Judges FOLDER's behaviors/, catalog/ and users/ as a run would, and stops there. Exit code 3 where it refuses.

    Example: homefeed data validate shop
    """
    from pipeline.config import load_config

    config = load_config(config_file, assignments)
    from pipeline.data_checks import validate_folder
    from pipeline.outcome import print_findings, wide_console

    outcome = validate_folder(config, folder, workspace)
    print_findings(outcome, wide_console(), with_info)
    if not outcome.blessed:
        raise GateRefused("the data gate refuses this data; the table's first rows say why.")
    click.echo("The data gate blesses this data.")


@data.command("propose-schema")
@click.argument("folder")
@click.option("--config", "config_file", help="YAML file.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Changes one key of the configuration.")
@click.option("--out", help="Folder that gets the changed schemas, for `schemas` in the configuration.")
def propose_schema(folder: str, config_file: str | None, assignments: tuple[str, ...], out: str | None) -> None:
    """Prints the change of the curated schemas that FOLDER's data needs, as a diff to review.

    Example: homefeed data propose-schema shop
    """
    from pipeline.config import load_config

    config = load_config(config_file, assignments)
    from pipeline.data_checks import propose_schemas

    diff = propose_schemas(config, folder, out)
    click.echo(diff or "The curated schemas fit this data.", nl=not diff)


def _with(options: list[Callable[[Callable[..., None]], Callable[..., None]]]) -> Callable[..., Callable[..., None]]:
    """Gives a command options that it shares with others."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_of_a_run = _with(
    [
        click.option("--behaviors", required=True, help="Folder of the behaviour log (CSV or Parquet)."),
        click.option("--catalog", required=True, help="Folder of the catalogue."),
        click.option("--workspace", required=True, help="Folder that gets artifacts, metadata and pushed models."),
        click.option("--users", help="Folder of the users' profiles, where there are any."),
        click.option("--config", "config_file", help="YAML file."),
        click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Changes one key."),
    ]
)


@homefeed.command()
@_of_a_run
@click.option("--until", help="The last step that runs, such as DataGate, InteractionGen or Transform.")
def run(until: str | None, **where: Any) -> None:
    """Validates, trains, evaluates, and pushes what passes the gates.

    Example: homefeed run --behaviors shop/behaviors --catalog shop/catalog --workspace w --set model.epochs=4
    """
    _run(until, **where)


@homefeed.command()
@_of_a_run
def reindex(assignments: tuple[str, ...], **where: Any) -> None:
    """Brings a new catalogue or a longer log into the last pushed model without training, and pushes it through the
    same gates: new items are placed by their content, histories, popularity and neighbours are today's.

    Example: homefeed reindex --behaviors shop/behaviors --catalog shop/catalog --workspace w
    """
    _run(None, assignments=(*assignments, "model.start=reindex"), **where)


@homefeed.command()
@_of_a_run
@click.option("--poll", default=60.0, type=click.FloatRange(1), help="Seconds between two looks at the folders.")
@click.option("--settle", default=60.0, type=click.FloatRange(0), help="A day is here when its files are this old.")
@click.option("--tries", default=5, type=click.IntRange(1), help="After so many failures a day is left out.")
@click.option("--once", "is_once", is_flag=True, help="End when nothing is due.")
def watch(poll: float, settle: float, tries: int, is_once: bool, **where: Any) -> None:
    """Runs each new day of the log as it arrives: validate, train on from the last pushed model, evaluate, gate, push.
    A day that the data gate refuses is left out, and the next one goes on.

    Example: homefeed watch --behaviors shop/behaviors --catalog shop/catalog --workspace w
    """
    folders, config = _folders_and_config(**where)
    from pipeline.watch import Day
    from pipeline.watch import watch as run_days

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def told(name: str, day: Day) -> None:
        click.echo(f"{name}: {day.state} in {day.seconds:.0f} s. {day.why}".rstrip())

    run_days(config, folders, where["workspace"], poll, settle, tries, is_once, told, stop.wait)


def _folders_and_config(
    behaviors: str,
    catalog: str,
    users: str | None,
    config_file: str | None,
    assignments: tuple[str, ...],
    workspace: str,
) -> tuple[dict[str, str], Any]:
    from pipeline.config import load_config

    folders = {names.BEHAVIORS: behaviors, names.CATALOG: catalog, **({names.USERS: users} if users else {})}
    return folders, load_config(config_file, assignments)


def _run(until: str | None, **where: Any) -> None:
    folders, config = _folders_and_config(**where)
    from pipeline.local_runner import run_locally
    from pipeline.outcome import print_outcome, wide_console

    outcome = run_locally(config, folders, where["workspace"], until)
    print_outcome(outcome, wide_console())
    if until:
        return
    click.echo(f"Model card: {outcome.card}/model_card.md")
    if outcome.pushed is None:
        raise GateRefused(" ".join(outcome.refusals) or "a gate refused the model.")
    serve_it = f"homefeed serve --rest_api_port=8501 --model_name={names.MODEL_NAME}"
    click.echo(f"Pushed {outcome.pushed}. Serve it: {serve_it} --model_base_path={outcome.pushed.parent}")


def _server_flag(name: str, default: Any, words: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """One of `Flags`; a switch may be given bare, or as --switch=false."""
    bare: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if isinstance(default, bool) else {}
    return click.option(f"--{name}", type=type(default), default=default, show_default=True, help=words, **bare)


@homefeed.command()
@_with([_server_flag(*flag) for flag in Flags.described()])
@click.option("--ui", is_flag=True, help="homefeed's own: also the home-feed page, on the REST port.")
@click.option("--catalog", help="Of the page: folder of the catalogue, for titles.")
@click.option("--behaviors", help="Of the page: folder of the behaviour log, for users and what they did.")
@click.option("--version", is_flag=True, help="Tells the versions, and ends.")
def serve(ui: bool, catalog: str | None, behaviors: str | None, version: bool, **flags: Any) -> None:
    """Serves models; the flags are tensorflow_model_server's. Either a folder of versions, of which the newest is
    served, or the file that `homefeed release` writes. With --ui, a page to try the feed on.

    Example: homefeed serve --rest_api_port=8501 --model_config_file=w/serving/models.config
    """
    if version:
        click.echo(f"homefeed ModelServer: {metadata.version('homefeed')}")
        click.echo(f"TensorFlow Library: {metadata.version('tensorflow')}")
        return
    if bool(flags["model_base_path"]) == bool(flags["model_config_file"]):
        raise InputError("give either --model_base_path or --model_config_file.")
    # Before TensorFlow is there: of 2.16, oneDNN's ops write where they must not when batches of several sizes run at
    # the same time, and end the process.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    if ui and not flags["rest_api_port"]:
        raise InputError("--ui: the page is on the REST port; give one, such as --rest_api_port=8501.")
    if (catalog or behaviors) and not ui:
        raise InputError("--catalog and --behaviors are of the page; add --ui.")
    from serving.server import serve as serve_models

    shown = None
    if ui:
        from pipeline.shown import read_shown

        name = names.MODEL_NAME if flags["model_config_file"] else flags["model_name"]
        shown = read_shown(name, catalog, behaviors)
    serve_models(Flags(**flags), shown)


@homefeed.command()
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


_of_a_release = _with(
    [
        click.option("--workspace", required=True, help="Whose pushed versions they are."),
        click.option("--why", default="", help="For the log."),
        click.option("--who", default="", help="For the log; without it, the user of this machine."),
        click.option("--address", "addresses", multiple=True, help="grpc://HOST:PORT of a server to tell at once."),
    ]
)


@homefeed.command()
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


@homefeed.command()
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


@homefeed.command()
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


@homefeed.command()
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


@homefeed.command()
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


@homefeed.command()
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


@homefeed.command()
@click.argument("signature", type=click.Choice([names.RECOMMEND, names.SIMILAR_ITEMS, names.SEARCH]))
@click.argument("what")
@click.option("--address", default="grpc://localhost:8500", help="grpc://HOST:PORT or http://HOST:PORT.")
@click.option("--model_name", default=names.MODEL_NAME)
@click.option("--label", default="", help="canary, stable or previous; without it, the newest version answers.")
@click.option("--k", default=10, type=click.IntRange(1))
@click.option("--history", default="", help="For recommend: item ids the user has met, newest first, with commas.")
@click.option("--traits", default="", help="For recommend: profile and context as column=value, with commas.")
@click.option("--user", default="", help="For search: who searches.")
@click.option("--diversity", default=0.0, type=click.FloatRange(0, 1), help="For recommend.")
@click.option("--catalog", help="Folder of the catalogue, to print titles.")
@click.option("--hash-user", is_flag=True, help="The user id is as in the log; the run had privacy.hash_user_ids.")
def query(
    signature: str,
    what: str,
    address: str,
    model_name: str,
    label: str,
    k: int,
    history: str,
    traits: str,
    user: str,
    diversity: float,
    catalog: str | None,
    hash_user: bool,
) -> None:
    """Asks a running server: recommend USER, similar_items ITEM, or search TEXT.

    Example: homefeed query recommend U000007 --k 5 --catalog shop/catalog
    """
    from pipeline.tables import answer_table, read_titles
    from serving.client import connect

    inputs: dict[str, Any] = {names.K: [k]}
    known_as = _pseudonym if hash_user else str
    if signature == names.RECOMMEND:
        inputs |= {names.USER_ID: [known_as(what)], names.DIVERSITY: [diversity]}
        if history:
            inputs[names.HISTORY_ITEM_IDS] = [history.split(",")]
        if traits:
            inputs[names.TRAITS] = [traits.split(",")]
    elif signature == names.SIMILAR_ITEMS:
        inputs[names.ITEM_ID] = [what]
    else:
        inputs |= {names.QUERY: [what], names.USER_ID: [known_as(user) if user else ""]}
    try:
        client = connect(address, model_name, label=label)
    except ValueError as error:
        raise InputError(f"--address {error}.") from error
    answer = client.predict(signature, inputs)
    Console().print(answer_table(f"{signature} {what}", answer, read_titles(catalog) if catalog else {}))


@homefeed.command()
@click.option("--model", required=True, help="A version's folder, or the folder of versions.")
@click.option("--users", required=True, help="File with one user id a line, or `all`.")
@click.option("--k", default=20, type=click.IntRange(1))
@click.option("--out", required=True, help="CSV file: user_id,item_id,rank,score.")
@click.option("--include-seen", is_flag=True, help="Keep items that the user already had.")
def recommend(model: str, users: str, k: int, out: str, include_seen: bool) -> None:
    """Writes lists for many users, without a server.

    Example: homefeed recommend --model w/serving/homefeed --users all --k 20 --out lists.csv
    """
    from pipeline.recommend import write_recommendations

    rows = write_recommendations(model, users, k, out, include_seen)
    click.echo(f"{out}: {rows} rows.")


def _pseudonym(user_id: str) -> str:
    from schema.privacy import pseudonym, user_id_key

    return pseudonym(user_id.encode(), user_id_key()).decode()


def _print_counts(counts: Counter[str], out: str) -> None:
    table = Table("", "rows", title=out)
    for label, count in sorted(counts.items()):
        table.add_row(label, f"{count:,}")
    Console().print(table)


for command in (compile_command, replay, submit, schedule):
    homefeed.add_command(command)


def main() -> None:
    """Runs the command line; what a person can act on is one line on stderr."""
    try:
        homefeed(standalone_mode=False)
    except HomefeedError as error:
        click.echo(f"homefeed: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("homefeed: stopped.", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
