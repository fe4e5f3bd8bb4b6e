"""`homefeed compile`, `replay`, `submit` and `schedule`."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from schema import names
from schema.errors import GateRefused, InputError

_parameters = click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A runtime parameter; else its default."
)


def read_parameters(pairs: Iterable[str]) -> dict[str, str]:
    """`name=value` pairs. Raises InputError where one is not."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise InputError(f"--parameter {pair}: is not NAME=VALUE.")
        found[name] = value
    return found


@click.command("compile")
@click.option("--out", required=True, help="A .yaml file for Kubeflow Pipelines, or a .json file for Vertex AI.")
@click.option("--users", "with_users", is_flag=True, help="There is a table of users' profiles.")
@click.option("--config", "config_file", help="YAML file.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Changes one key.")
def compile_command(out: str, with_users: bool, config_file: str | None, assignments: tuple[str, ...]) -> None:
    """Writes the pipeline for Kubeflow; folders, volume and secret are parameters of each run.

    Example: homefeed compile --config shop.yaml --out pipeline.yaml
    """
    from pipeline.config import load_config

    config = load_config(config_file, assignments)
    from pipeline.kubeflow.compiler import compile_pipeline

    logging.getLogger("absl").setLevel(logging.ERROR)  # TFX warns of what its own Pusher still asks for
    compile_pipeline(config, with_users, out)
    click.echo(f"{out}: the whole pipeline. Try it here first: homefeed replay {out} --store replay")


@click.command()
@click.argument("file")
@click.option("--store", required=True, help="Folder that gets artifacts and what each step prints.")
@click.option("--root", help="Where artifacts go; a bucket's, such as minio://b/v2, lies in --store then.")
@_parameters
def replay(file: str, store: str, root: str | None, parameters: tuple[str, ...]) -> None:
    """Runs a compiled pipeline on this machine, each step by the command that a cluster would run.

    Example: homefeed replay pipeline.yaml --store replay --parameter behaviors=shop/behaviors
    """
    from pipeline.kubeflow.replay import SKIPPED
    from pipeline.kubeflow.replay import replay as run_all

    given = read_parameters(parameters)
    Path(store).mkdir(parents=True, exist_ok=True)
    found = run_all(file, given, store, root or str(Path(store).resolve() / "artifacts"), told=click.echo)
    skipped = [name for name, state in found.steps.items() if state == SKIPPED]
    if skipped:
        raise GateRefused(f"a condition said no, so that these steps did not run: {', '.join(skipped)}.")


def _of_an_endpoint(command: Callable[..., None]) -> Callable[..., None]:
    """Options of the commands that talk to Kubeflow Pipelines."""
    for option in (
        _parameters,
        click.option("--root", default="", help="Where artifacts go; empty: as compiled, or the cluster's default."),
        click.option("--namespace", default="", help="Of a multi-user installation."),
        click.option("--experiment", default=names.MODEL_NAME),
        click.option("--name", default=names.MODEL_NAME, help="Of the run."),
        click.option("--host", required=True, help="The endpoint. A token is taken from HOMEFEED_KFP_TOKEN."),
        click.argument("file"),
    ):
        command = option(command)
    return command


@click.command()
@_of_an_endpoint
def submit(file: str, host: str, name: str, parameters: tuple[str, ...], **where: str) -> None:
    """Starts a run of a compiled pipeline on Kubeflow Pipelines.

    Example: homefeed submit pipeline.yaml --host http://localhost:8888 --parameter behaviors=/homefeed/behaviors
    """
    given = read_parameters(parameters)
    from pipeline.kubeflow.client import submit as start

    click.echo(f"Run {start(file, host, given, name, **where)} of {file} is on its way at {host}.")


@click.command()
@_of_an_endpoint
@click.option("--cron", default="0 0 4 * * *", help="Six fields, seconds first, in the cluster's time.")
def schedule(file: str, host: str, name: str, cron: str, parameters: tuple[str, ...], **where: str) -> None:
    """Has a compiled pipeline run by a calendar on Kubeflow Pipelines.

    Example: homefeed schedule pipeline.yaml --host http://localhost:8888 --cron "0 30 3 * * *"
    """
    given = read_parameters(parameters)
    from pipeline.kubeflow.client import schedule as plan

    click.echo(f"Recurring run {plan(file, host, given, name, cron=cron, **where)} of {file}: {cron}.")
