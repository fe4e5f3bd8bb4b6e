"""An encoder by URL, from a local server."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest

from pipeline.encoder_download import local_encoder
from schema.errors import InputError
from tests.trainer.tiny_bert import write_bert
from trainer.text_encoder import load_encoder


@pytest.fixture
def site(tmp_path):
    """(folder that is served, its URL, requests so far)."""
    folder, asked = tmp_path / "site", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://localhost:{server.server_port}", asked
        server.shutdown()
        thread.join()


def packed(folder, kind):
    """Writes an encoder's archive; returns (name, SHA-256)."""
    bert, name = write_bert(folder.parent / "bert", ("red", "mug")), f"encoder.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(folder / name, "w") as file:
            for part in ("config.json", "vocab.txt", "model.safetensors"):
                file.write(f"{bert}/{part}", f"inner/{part}")
    else:
        with tarfile.open(folder / name, "w:gz") as file:
            file.add(bert, "inner")
    return name, hashlib.sha256((folder / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_it_is_downloaded_once_and_read(site, tmp_path, kind):
    folder, url, asked = site
    name, sha256 = packed(folder, kind)
    found = local_encoder(f"{url}/{name}", sha256.upper(), str(tmp_path / "cache"))
    assert load_encoder(found, 16).encode(["red mug"]).shape == (1, 8)
    assert local_encoder(f"{url}/{name}", sha256, str(tmp_path / "cache")) == found
    assert len(asked) == 1


def test_what_is_not_the_file_that_was_meant_is_refused_and_not_kept(site, tmp_path):
    folder, url, _ = site
    name, sha256 = packed(folder, "zip")
    cache = tmp_path / "cache"
    for arguments, words in (
        ((f"{url}/{name}", "0" * 64), "its SHA-256 is"),
        ((f"{url}/{name}", ""), "encoder.sha256: has to be given"),
        ((f"{url}/missing.zip", sha256), "could not be downloaded"),
    ):
        with pytest.raises(InputError, match=words):
            local_encoder(*arguments, str(cache))
    assert not list(cache.glob("*"))


def test_an_archive_that_leads_outside_is_refused(site, tmp_path):
    folder, url, _ = site
    with tarfile.open(folder / "bad.tar.gz", "w:gz") as file:
        entry = tarfile.TarInfo("../../outside")
        entry.size = 1
        file.addfile(entry, io.BytesIO(b"x"))
    sha256 = hashlib.sha256((folder / "bad.tar.gz").read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"is no readable .tar.gz"):
        local_encoder(f"{url}/bad.tar.gz", sha256, str(tmp_path / "cache"))
    assert not (tmp_path / "outside").exists() and not list((tmp_path / "cache").glob("*"))


def test_a_folder_is_itself(tmp_path):
    assert local_encoder(str(tmp_path), "", "nowhere") == str(tmp_path)
