"""`homefeed data`: data sets in homefeed's form, and what is wrong with one."""

import datetime as dt
from collections import Counter
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from schema.errors import GateRefused


@click.group()
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


def _print_counts(counts: Counter[str], out: str) -> None:
    table = Table("", "rows", title=out)
    for label, count in sorted(counts.items()):
        table.add_row(label, f"{count:,}")
    Console().print(table)
