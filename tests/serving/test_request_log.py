"""What a server was asked, as a sample without users."""

import numpy as np
import pytest
import tensorflow as tf

from schema import names
from serving.request_log import RequestLog


def asked(users=2, **inputs):
    given = {names.USER_ID: np.array([f"secret-{n}".encode() for n in range(users)], object)}
    return {**given, **{name: np.array(value) for name, value in inputs.items()}}


def logged(folder):
    files = sorted(str(path) for path in folder.glob("requests-*.gz"))
    records = list(tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())
    assert not any(b"secret" in record for record in records)
    return [tf.train.Example.FromString(record).features.feature for record in records]


def test_a_request_s_rows_are_logged_without_its_users(tmp_path):
    log = RequestLog(str(tmp_path / "new"), 1.0)
    history = np.array([[b"a", b"b"], [b"c", b""]], object)
    events = np.array([[b"view", b"purchase"], [b"view", b""]], object)
    times = [[5, 3], [9, 0]]
    log.note(names.RECOMMEND, asked(history_item_ids=history, history_events=events, history_timestamps=times))
    log.note(names.RECOMMEND, asked(timestamp=[77]))
    log.note(names.SIMILAR_ITEMS, {names.ITEM_ID: np.array([b"x"], object)})
    log.close()
    rows = logged(tmp_path / "new")
    assert len(rows) == 4
    assert [list(row[names.HISTORY_ITEM_IDS].bytes_list.value) for row in rows[:2]] == [[b"a", b"b"], [b"c"]]
    assert [list(row[names.HISTORY_TIMESTAMPS].int64_list.value) for row in rows[:2]] == [[5, 3], [9]]
    assert list(rows[1][names.HISTORY_EVENTS].bytes_list.value) == [b"view"]
    assert rows[2][names.TIMESTAMP].int64_list.value[0] == 77 and rows[0][names.TIMESTAMP].int64_list.value[0] > 1e9


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_about_the_share_that_is_asked_for_is_logged(tmp_path, share):
    log = RequestLog(str(tmp_path), share)
    for _ in range(600):
        log.note(names.SERVING_DEFAULT, asked(users=1))
    log.close()
    assert len(logged(tmp_path)) == pytest.approx(600 * share, abs=70)


def test_files_are_ended_by_rows_and_by_time_and_have_their_names_when_they_are_whole(tmp_path):
    log = RequestLog(str(tmp_path), 1.0, rows=3, seconds=0.0)
    for _ in range(4):
        log.note(names.SERVING_DEFAULT, asked(users=1))
    assert len(list(tmp_path.iterdir())) == 4
    log.close()
    assert len(list(tmp_path.iterdir())) == 4 and not list(tmp_path.glob("*.partial"))
    by_rows = RequestLog(str(tmp_path / "rows"), 1.0, rows=3)
    for _ in range(4):
        by_rows.note(names.SERVING_DEFAULT, asked(users=1))
    assert len(logged(tmp_path / "rows")) == 3
