"""Writes a report: one HTML file that opens without a network, on a phone, in light and in dark."""

from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from pipeline.lineage import Store
from pipeline.report.facts import RunFacts, read_facts
from pipeline.report.sections import Grid, sections
from schema.files import replace_text

_TEMPLATE = Path(__file__).with_name("page.html")
_FOLDER = "reports"  # in the workspace


def report_file(workspace: Path, runs: Sequence[str]) -> Path:
    """Where the report of some runs lies, by their names."""
    return workspace / _FOLDER / f"{'-'.join(runs).replace(':', '')}.html"


def write_report(store: Store, serving: Path, out: Path, runs: Sequence[str] = ("",)) -> Path:
    """Writes the report of a run, or of two side by side.

    Args:
      store: the workspace's ML Metadata.
      serving: the folder of pushed versions.
      out: the file; its folder is made.
      runs: one or two runs' names; the newest where empty.

    Raises:
      InputError: there is no such run.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_text(out, render([read_facts(store, serving, run) for run in runs]))
    return out


def render(runs: Sequence[RunFacts]) -> str:
    """The page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.tests["grid"] = lambda part: isinstance(part, Grid)
    environment.tests["plot"] = lambda part: isinstance(part, Markup)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(runs=runs, sections=sections(runs))
