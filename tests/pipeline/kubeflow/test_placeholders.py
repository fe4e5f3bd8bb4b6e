"""`${NAME}` in a step's settings."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kubeflow.placeholders import fill, stand_in
from schema.errors import InputError

PATHS = st.text(st.characters(blacklist_categories=("C", "Z"), blacklist_characters='"\\'), max_size=20)


@given(PATHS, PATHS)
def test_json_that_names_parameters_stays_json(cache, models):
    told = json.dumps({"a": f"{stand_in('cache')}/x", "b": [stand_in("models")], "c": stand_in("other"), "d": 1})
    filled = json.loads(fill(told, {"cache": cache, "models": models}))
    assert filled == {"a": f"{cache}/x", "b": [models], "c": "${other}", "d": 1}


def test_numbers_are_left_alone():
    assert fill(3, {"cache": "c"}) == 3


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb"])
def test_what_would_end_the_json_is_refused(value):
    with pytest.raises(InputError, match="the parameter cache"):
        fill('{"a": "${cache}"}', {"cache": value})
