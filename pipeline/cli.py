"""The command line. Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration, 3 a gate said no.

TensorFlow and TFX are imported by the commands that need them, so that `--help` answers at once.
"""

import os
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import click
from rich.console import Console

import pipeline.quiet  # noqa: F401  (before anything imports TensorFlow)
from pipeline.data.commands import data
from pipeline.kubeflow.commands import compile_command, replay, schedule, submit
from pipeline.model_commands import compare, drift, gate, prune, release, report, rollback, status
from pipeline.options import with_options
from schema import names
from schema.errors import GateRefused, HomefeedError, InputError
from schema.signals import told_to_end
from serving.flags import Flags


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="homefeed")
def homefeed() -> None:
    """A personalised home feed from a behaviour log: validate, train, gate, push, serve."""


_of_a_run = with_options(
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
@click.option("--fresh-every", default=7, type=click.IntRange(0), help="Days until one trains from nothing; 0: never.")
@click.option("--keep", default=10, type=click.IntRange(0), help="Versions; what is older is removed, 0: nothing is.")
@click.option("--once", "is_once", is_flag=True, help="End when nothing is due.")
def watch(poll: float, settle: float, tries: int, fresh_every: int, keep: int, is_once: bool, **where: Any) -> None:
    """Runs each new day of the log as it arrives: validate, train on from the last pushed model, evaluate, gate, push.
    A day that the data gate refuses is left out, and the next one goes on. Now and then a day trains from nothing. Of
    old days, what `homefeed prune` removes is removed.

    Example: homefeed watch --behaviors shop/behaviors --catalog shop/catalog --workspace w
    """
    folders, config = _folders_and_config(**where)
    from pipeline.watch import Day
    from pipeline.watch import watch as run_days

    stop = told_to_end()

    def told(name: str, day: Day) -> None:
        click.echo(f"{name}: {day.state} in {day.seconds:.0f} s. {day.why}".rstrip())

    run_days(config, folders, where["workspace"], poll, settle, tries, fresh_every, keep, is_once, told, stop.wait)


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
@with_options([_server_flag(*flag) for flag in Flags.described()])
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


_OF_MODELS = (gate, report, release, rollback, compare, drift, status, prune)
for command in (data, *_OF_MODELS, compile_command, replay, submit, schedule):
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
