"""A file that is replaced; tests/serving/test_releases.py kills who does it at every step."""

import os
from pathlib import Path

import pytest

from schema.files import replace_text


def test_a_file_is_replaced_and_nothing_lies_beside_it(tmp_path):
    file = tmp_path / "state.json"
    for text in ("old", "新"):
        replace_text(file, text)
        assert file.read_bytes() == text.encode() and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("step", ["open", "replace"])
def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path, monkeypatch, step):
    file = tmp_path / "state.json"
    replace_text(file, "old")

    def refuses(*_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, refuses)
        with pytest.raises(OSError, match="no space"):
            replace_text(file, "new")
    assert file.read_text() == "old"


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("sync"), sync(number))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("name"), replace(self, to))[1])
    replace_text(tmp_path / "state.json", "new")
    assert done == ["sync", "name", "sync"]
