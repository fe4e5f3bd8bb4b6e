"""What two arms of an experiment earned, from its logs: the difference with intervals, and a test for every day.

The unit is the user. A metric is the sum of an event's values over requests: its mean is a ratio, whose variance is by
the delta method over users (Deng et al. 2018, "Applying the delta method in metric analytics"). Two intervals of the
difference:

- fixed: of a normal; right for who looks once, at the end that was set before.
- always valid: a normal mixture's (Robbins 1970; Johari et al. 2022, "Always valid inference"): it holds at all looks
  together, so that one may look every day and stop when it leaves 0 out. It is wider.

Where the arms' numbers of users do not fit their shares, nothing of this holds: that is told first.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from schema.errors import InputError
from serving.experiment import EVENT, SHOWN

_FIELDS = {
    SHOWN: ("experiment", "arm", "user", "request", "items", "time"),
    EVENT: ("request", "item", "event", "value", "time"),
}
MISMATCH = 0.001  # p value of the arms' sizes below which something is wrong with the assignment


@dataclass(frozen=True)
class Arm:
    """Of one arm: users, requests, what was earned a request, and the standard error of that."""

    name: str
    users: int
    requests: int
    mean: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """Of a treatment with a control.

    Attributes:
      control, treatment: the arms.
      difference: treatment - control, a request.
      fixed, always: (lower, upper) ends of its intervals.
      p_value: always valid: the smallest error level at which the test has rejected by now.
      mismatch: p value of the arms' numbers of users given their shares.
    """

    control: Arm
    treatment: Arm
    difference: float
    fixed: tuple[float, float]
    always: tuple[float, float]
    p_value: float
    mismatch: float


def read_logs(folder: Path) -> Iterator[dict[str, Any]]:
    """Records of all files of a folder.

    Raises:
      InputError: a line that is none; names file and line. The last line of a file may be cut off by a crash: it is
        left out.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise InputError(f"{folder}: holds no *.jsonl; give the folder that the experiment has logged to.")
    for file in files:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.endswith("\n"):
                    yield _record(line, f"{file}:{number}")


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        missing = [name for name in _FIELDS[record["kind"]] if name not in record]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}: is no line of an experiment's log; serving/experiment.py has its form.") from error
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}; see serving/experiment.py for the form.")
    return record


def by_user(
    records: Iterable[Mapping[str, Any]], experiment: str, weights: Mapping[str, float]
) -> dict[str, dict[str, tuple[float, int]]]:
    """Arm -> user -> (earned, requests).

    Args:
      records: of the log, in any order.
      experiment: whose.
      weights: event -> what its value counts.

    Raises:
      InputError: a user is in two arms.
    """
    arm_of_request: dict[str, tuple[str, str]] = {}
    events: list[Mapping[str, Any]] = []
    arms: dict[str, dict[str, tuple[float, int]]] = {}
    home: dict[str, str] = {}
    for record in records:
        if record["kind"] == EVENT:
            events.append(record)
        elif record["experiment"] == experiment:
            arm, user = record["arm"], record["user"]
            if home.setdefault(user, arm) != arm:
                raise InputError(
                    f"experiment {experiment}: a user is in the arms {home[user]} and {arm}; give an experiment whose "
                    "shares were changed another name."
                )
            arm_of_request[record["request"]] = arm, user
            earned, requests = arms.setdefault(arm, {}).get(user, (0.0, 0))
            arms[arm][user] = earned, requests + 1
    for record in events:
        if record["request"] in arm_of_request and record["event"] in weights:
            arm, user = arm_of_request[record["request"]]
            earned, requests = arms[arm][user]
            arms[arm][user] = earned + weights[record["event"]] * record["value"], requests
    return arms


def summary(name: str, users: Iterable[tuple[float, int]]) -> Arm:
    """An arm's mean a request, of (earned, requests) of its users; the error is infinite for fewer than two."""
    earned, requests = np.array(list(users), float).reshape(-1, 2).T
    n, total = len(earned), requests.sum()
    mean = float(earned.sum() / total) if total else math.nan
    residuals = earned - mean * requests
    error = float(np.sqrt((residuals**2).sum() * n / (n - 1)) / total) if n > 1 else math.inf
    return Arm(name, n, int(total), mean, error)


def compare(control: Arm, treatment: Arm, share: float, confidence: float, effect: float) -> Comparison:
    """Compares two arms.

    Args:
      control, treatment: see `summary`.
      share: of the treatment among both arms' users.
      confidence: of the intervals, two-sided.
      effect: the difference that one hopes for, relative to the control's mean: where the always valid interval is
        sharpest. Fix it before the experiment.
    """
    difference, alpha = treatment.mean - control.mean, 1 - confidence
    variance = control.error**2 + treatment.error**2
    fixed = stats.norm.ppf(1 - alpha / 2) * math.sqrt(variance)
    mixing = (effect * abs(control.mean)) ** 2  # variance of the differences that the mixture tries
    always, p_value = math.inf, 1.0
    if math.isfinite(variance) and variance > 0 and mixing > 0:
        both = variance + mixing
        always = math.sqrt(variance * both / mixing * (math.log(both / variance) - 2 * math.log(alpha)))
        evidence = 0.5 * math.log(variance / both) + difference**2 * mixing / (2 * variance * both)
        p_value = min(1.0, math.exp(-evidence))
    users = control.users + treatment.users
    mismatch = float(stats.binomtest(treatment.users, users, share).pvalue) if users else 1.0
    ends = [(difference - half, difference + half) for half in (fixed, always)]
    return Comparison(control, treatment, difference, ends[0], ends[1], p_value, mismatch)
