"""`homefeed compare`: two arms of an online experiment, as a table or as JSON."""

import json
import math
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from schema.errors import HomefeedError, InputError
from schema.plain import plain
from serving.comparison import MISMATCH, Comparison, by_user, compare, read_logs, summary


def compare_logs(
    logs: Path,
    experiment: str,
    control: str,
    treatment: str,
    console: Console,
    share: float,
    events: tuple[str, ...],
    confidence: float,
    effect: float,
    as_json: bool,
) -> None:
    """Reads the logs and shows the comparison.

    Raises:
      InputError: logs that cannot be read, an arm without users, an event without a weight.
      HomefeedError: the arms' sizes do not fit their share, so that nothing can be said.
    """
    arms = by_user(read_logs(logs), experiment, dict(map(_weight, events)))
    for arm in (control, treatment):
        if arm not in arms:
            raise InputError(f"{logs}: experiment {experiment} has no arm {arm}; arms are {', '.join(sorted(arms))}.")
    both = [summary(name, arms[name].values()) for name in (control, treatment)]
    found = compare(both[0], both[1], share, confidence, effect)
    if as_json:
        print(json.dumps(plain(asdict(found))))
    else:
        console.print(_table(found, experiment, confidence))
        console.print(_words(found), highlight=False)
    if found.mismatch < MISMATCH:
        users = f"{found.control.users:,} and {found.treatment.users:,} users"
        raise HomefeedError(
            f"experiment {experiment}: {users} do not fit a share of {share:g} (p = {found.mismatch:.1g}): the "
            "assignment or the logging is wrong, and nothing can be concluded."
        )


def _weight(event: str) -> tuple[str, float]:
    name, separator, weight = event.partition("=")
    try:
        return name, float(weight) if separator else 1.0
    except ValueError as error:
        raise InputError(f"--event {event}: write it as EVENT=WEIGHT.") from error


def _table(found: Comparison, experiment: str, confidence: float) -> Table:
    table = Table("arm", "users", "requests", "earned a request", "standard error", title=f"Experiment {experiment}")
    for arm in (found.control, found.treatment):
        table.add_row(arm.name, f"{arm.users:,}", f"{arm.requests:,}", f"{arm.mean:.5f}", f"{arm.error:.5f}")
    table.add_section()
    for name, ends in (("at the end", found.fixed), ("at any time", found.always)):
        told = " … ".join(f"{end:+.5f}" for end in ends)
        table.add_row(f"difference, {confidence:.0%}, {name}", "", "", f"{found.difference:+.5f}", told)
    return table


def _words(found: Comparison) -> str:
    lower, upper = found.always
    relative = found.difference / found.control.mean if found.control.mean else math.nan
    if lower > 0 or upper < 0:
        better = "better" if lower > 0 else "worse"
        verdict = f"{found.treatment.name} is {better} than {found.control.name}"
        return f"{verdict} ({relative:+.1%}, p = {found.p_value:.2g} at any time): the experiment may be ended."
    return f"No difference is sure yet ({relative:+.1%}, p = {found.p_value:.2g} at any time): go on."
