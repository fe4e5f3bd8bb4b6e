import json

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.cli import homefeed
from schema.errors import HomefeedError, InputError


@pytest.fixture
def logs(tmp_path):
    """2,000 users an arm, of whom a tenth, and of the canary's a seventh, click."""
    random, lines = np.random.default_rng(1), []
    for arm, share in (("stable", 0.1), ("canary", 0.15)):
        for user in range(2_000):
            request = f"{arm}{user}"
            shown = {"experiment": "e", "arm": arm, "user": request, "request": request, "items": ["i"], "time": 0}
            lines.append({"kind": "shown", **shown})
            if random.random() < share:
                lines.append(
                    {"kind": "event", "request": request, "item": "i", "event": "click", "value": 1, "time": 1}
                )
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return tmp_path


def call(logs, *arguments):
    return CliRunner().invoke(homefeed, ["compare", "--logs", str(logs), "--experiment", "e", *arguments])


def test_a_better_canary_is_told(logs):
    result = call(logs)
    assert result.exit_code == 0 and "canary is better than stable" in result.output
    assert "at any time" in result.output and "2,000" in result.output
    told = json.loads(call(logs, "--json", "--event", "click=10").output)
    assert (
        told["difference"] == pytest.approx(10 * json.loads(call(logs, "--json").output)["difference"])
        and told["always"][0] > 0
    )


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--treatment", "none"], InputError, "arms are canary, stable"),
        (["--event", "click=much"], InputError, "EVENT=WEIGHT"),
        (["--share", "0.3"], HomefeedError, "do not fit a share of 0.3"),
    ],
)
def test_what_cannot_be_compared_is_named(logs, arguments, error, words):
    result = call(logs, *arguments)
    assert isinstance(result.exception, error) and words in str(result.exception)
