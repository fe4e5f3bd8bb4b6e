"""Requests beside the training data, of the small shop."""

import numpy as np
import pytest

from components.examples import read_split
from pipeline.drift import drift
from pipeline.lineage import Store
from pipeline.local_runner import metadata_of
from schema import names
from schema.errors import InputError
from serving.request_log import RequestLog


@pytest.fixture(scope="module")
def histories(shop):
    """Those of training examples: (item ids, events, timestamps, moment)."""
    from tfx.types.standard_artifacts import Examples

    examples = Examples()
    examples.uri = str(shop.artifact("InteractionGen", "examples"))
    examples.split_names = f'["{names.TRAIN_SPLIT}"]'
    return [row for row in read_split(examples, names.TRAIN_SPLIT) if row.get(names.HISTORY_ITEM_IDS)]


def asked(folder, rows, item=None):
    log = RequestLog(str(folder), 1.0)
    for row in rows:
        ids = [item] * len(row[names.HISTORY_ITEM_IDS]) if item else row[names.HISTORY_ITEM_IDS]
        log.note(
            names.RECOMMEND,
            {
                names.USER_ID: np.array([b"u"], object),
                names.HISTORY_ITEM_IDS: np.array([ids], object),
                names.HISTORY_EVENTS: np.array([row[names.HISTORY_EVENTS]], object),
                names.HISTORY_TIMESTAMPS: np.array([row[names.HISTORY_TIMESTAMPS]]),
                names.TIMESTAMP: np.array(row[names.TIMESTAMP]),
            },
        )
    log.close()
    return str(folder)


def compared(shop, requests):
    distances, facts = drift(Store(metadata_of(shop.workspace)), requests, 0.2)
    return {one.feature: one for one in distances}, facts


def test_requests_like_the_training_data_are_near(shop, histories, tmp_path):
    found, facts = compared(shop, asked(tmp_path / "log", histories[::2]))
    assert set(found) >= {"history_item", "history_event", "history_length", "hour", "days_since"}
    assert not any(one.is_far for one in found.values())
    assert facts["requests with a history"] == 1 and facts["history items that training does not know"] == 0


def test_other_requests_are_far_and_strange_items_are_counted(shop, histories, tmp_path):
    found, facts = compared(shop, asked(tmp_path / "log", histories[:50], b"nobody knows me"))
    assert found["history_item"].is_far and facts["history items that training does not know"] == 1


def test_users_whose_history_is_stored_are_no_skew(shop, tmp_path):
    log = RequestLog(str(tmp_path), 1.0)
    log.note(names.SERVING_DEFAULT, {names.USER_ID: np.array([b"u"], object)})
    log.close()
    found, facts = compared(shop, str(tmp_path))
    assert not found and facts["requests"] == 1


def test_a_folder_without_requests_is_refused(shop, tmp_path):
    with pytest.raises(InputError, match="serve with --request_log_folder"):
        compared(shop, str(tmp_path))
