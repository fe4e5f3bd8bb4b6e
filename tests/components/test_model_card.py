import json
import math

from components.evaluation_results import ALL, Check, Evaluation
from components.model_card import card_of, markdown_of
from pipeline.config import load_config
from schema import names
from schema.plain import plain

FOUND = {"recall_at_20": 0.25, "recall_at_20_lower": 0.2, "recall_at_20_upper": math.inf, "example_count": 1200.0}


def card(**changes):
    evaluation = Evaluation(
        metrics={ALL: {**FOUND, "recall_at_20_change": -0.1}, "activity=new": {**FOUND, "example_count": 3.0}},
        checks=[Check("recall_at_20", ALL, 0.25, 0.2, 0.3, "at least 0.5", passed=False)],
        has_baseline=True,
    )
    told = {
        "data": {"findings": [], "rows": {names.BEHAVIORS: {"rows": 10, "kept": 8, "duplicate_event": 2}}},
        "spans": {names.BEHAVIORS: ["2024-01-01", "2024-01-02"]},
        "moments": (1_700_000_000, 1_700_086_400),
        "cut": 1_700_050_000,
        "evaluation": evaluation,
        "serving": {"faults": {"ops": [], "latency": ["too | slow."]}, "measured": {"latency": "9 ms"}},
        "verdicts": {"DataGate": True, "Evaluator": False},
        "version": "7",
        "lineage": {"code": "abc"},
        "settings": load_config().model_dump(),
    }
    return card_of(**{**told, **changes})


def test_the_card_says_what_was_found_and_what_was_asked():
    text = markdown_of(card())
    for words in (
        "# Model card: homefeed 7",
        "| Evaluator | refused |",
        "from 2023-11-14T22:13:20+00:00 until 2023-11-15T22:13:20+00:00; held out from: 2023-11-15T12:06:40+00:00",
        "| behaviors | 10 | 8 | duplicate_event 2 |",
        "| behaviors | 2 | 2024-01-01 | 2024-01-02 |",
        "| recall_at_20 | 0.2500 |  | -10.0% |",  # without a finite end there is no interval
        "| activity=new | 3 | 0.2500 |",
        "| missed | recall_at_20 | all users | 0.2500 [0.2000, 0.3000] | at least 0.5 |",
        "too \\| slow.",
        "| code | abc |",
    ):
        assert words in text, words


def test_users_with_moments_of_their_own_and_a_model_that_was_not_pushed():
    text = markdown_of(card(cut=0, version=""))
    assert "held out from: each user's own moment" in text and "homefeed (not pushed)" in text


def test_a_log_with_nothing_to_hold_out_has_a_card_all_the_same():
    assert "## Thresholds" in markdown_of(card(evaluation=Evaluation()))


def test_the_card_is_json():
    text = json.dumps(plain(card()), allow_nan=False)
    assert json.loads(text)["metrics"][ALL]["recall_at_20_upper"] is None
