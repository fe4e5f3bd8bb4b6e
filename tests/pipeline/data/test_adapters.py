import csv
import functools
import hashlib
import http.server
import io
import itertools
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from pathlib import Path

import openpyxl
import pytest

from pipeline.data import movielens, online_retail
from pipeline.data.archive import RowsChecksum
from pipeline.data.online_retail import write_online_retail
from pipeline.data.sample import write_sample
from schema.errors import InputError

HEADER = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"]
ROWS = [
    ["536365", "85123A", "WHITE  HEART", "6", "2010-12-01 08:26:00", "2.55", "17850.0", "United Kingdom"],
    ["536365", "71053", "METAL LANTERN", "6", "2010-12-01 08:26:00", "3.39", "17850.0", "United Kingdom"],
    ["C536379", "71053", "METAL LANTERN", "-1", "2010-12-02 09:41:00", "3.39", "17850.0", "United Kingdom"],
    ["536380", "71053", "", "2", "2010-12-02 09:41:00", "3.39", "", "United Kingdom"],
    ["536381", "POST", "POSTAGE", "1", "2010-12-02 09:41:00", "18.0", "12583.0", "France"],
    ["536382", "22222", "", "3", "2010-12-03 10:00:00", "1.0", "12583.0", "France"],
]


def read(folder: Path) -> list[dict[str, str]]:
    return [row for file in sorted(folder.rglob("*.csv")) for row in csv.DictReader(file.open(encoding="utf-8"))]


def csv_archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for day in ("2010-12-01", "2010-12-02", "2010-12-03"):
            text = io.StringIO()
            csv.writer(text).writerows([HEADER, *(row for row in ROWS if row[4].startswith(day))])
            file.writestr(f"{day}.csv", text.getvalue())
    return path


def xlsx_archive(path: Path) -> Path:
    book = openpyxl.Workbook()
    book.active.append(HEADER)
    for row in ROWS:
        number = int(row[0]) if row[0].isdigit() else row[0]
        code = int(row[1]) if row[1].isdigit() else row[1]
        customer = float(row[6]) if row[6] else None
        book.active.append([number, code, row[2] or None, int(row[3]), row[4], float(row[5]), customer, row[7]])
    content = io.BytesIO()
    book.save(content)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("Online Retail.xlsx", content.getvalue())
    return path


@pytest.fixture
def small_retail(monkeypatch):
    """The adapter, told that the six rows above are what is published."""
    checksum = RowsChecksum()
    for row in ROWS:
        checksum.add(row[0], row[1], int(row[3]))
    monkeypatch.setattr(online_retail, "ROWS_CHECKSUM", f"{checksum._sum:016x}")


@pytest.mark.parametrize("make", [csv_archive, xlsx_archive])
def test_online_retail_maps_returns_and_counts_what_it_drops(tmp_path, small_retail, make):
    counts = write_online_retail(str(tmp_path / "out"), str(make(tmp_path / "a.zip")))
    assert counts["dropped: no customer"] == 1
    assert counts["dropped: no product (postage, fees, adjustments)"] == 1
    assert counts["mapped: negative quantity to the event `return`"] == 1
    rows = read(tmp_path / "out" / "behaviors")
    assert [(r["user_id"], r["item_id"], r["event"], r["timestamp"], r["value"]) for r in rows] == [
        ("17850", "85123A", "purchase", "1291191960", "6"),
        ("17850", "71053", "purchase", "1291191960", "6"),
        ("17850", "71053", "return", "1291282860", "1"),
        ("12583", "22222", "purchase", "1291370400", "3"),
    ]
    assert sorted(p.name for p in (tmp_path / "out" / "behaviors").iterdir()) == [
        "2010-12-01",
        "2010-12-02",
        "2010-12-03",
    ]
    catalog = {row["item_id"]: row["title"] for row in read(tmp_path / "out" / "catalog")}
    assert catalog == {"85123A": "WHITE HEART", "71053": "METAL LANTERN", "22222": "22222"}


def test_a_changed_row_is_noticed_and_nothing_is_left_behind(tmp_path, small_retail):
    archive = csv_archive(tmp_path / "a.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("2010-12-04.csv", ",".join(HEADER) + "\n9,11111,MORE,1,2010-12-04 10:00:00,1.0,1.0,UK\n")
    with pytest.raises(InputError, match="checksum"):
        write_online_retail(str(tmp_path / "out"), str(archive))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_taken_folder_is_left_as_it_is(tmp_path, small_retail):
    archive = csv_archive(tmp_path / "a.zip")
    (tmp_path / "out" / "behaviors").mkdir(parents=True)
    with pytest.raises(InputError, match="already exists"):
        write_online_retail(str(tmp_path / "out"), str(archive))


def test_an_archive_that_is_no_zip_is_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"a\.zip"):
        write_online_retail(str(tmp_path / "out"), str(tmp_path / "a.zip"))


def test_the_archive_is_downloaded_from_its_url(tmp_path, small_retail, monkeypatch):
    csv_archive(tmp_path / "retail.zip")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setattr(online_retail, "URL", f"http://127.0.0.1:{server.server_port}/retail.zip")
        assert write_online_retail(str(tmp_path / "out"))["behaviors written"] == 4
        monkeypatch.setattr(online_retail, "URL", f"http://127.0.0.1:{server.server_port}/nothing.zip")
        with pytest.raises(InputError, match="--archive"):
            write_online_retail(str(tmp_path / "other"))
    finally:
        server.shutdown()
        server.server_close()


def test_movielens_maps_ratings_tags_and_genres(tmp_path, monkeypatch):
    files = {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,10,4.5,964982703\n",
        "tags.csv": "userId,movieId,tag,timestamp\n2,10,funny,1445714994\n",
        "movies.csv": "movieId,title,genres\n10,GoldenEye (1995),Action|Thriller\n11,Rare,(no genres listed)\n",
    }
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name, text in files.items():
            file.writestr(f"ml-latest-small/{name}", text)
    with pytest.raises(InputError, match="SHA-256"):
        movielens.write_movielens(str(tmp_path / "no"), str(tmp_path / "a.zip"))
    published = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    monkeypatch.setattr(movielens, "SHA256", published)
    movielens.write_movielens(str(tmp_path / "out"), str(tmp_path / "a.zip"))
    rows = read(tmp_path / "out" / "behaviors")
    assert [(r["user_id"], r["event"], r["value"], r["comment"]) for r in rows] == [
        ("1", "rating", "4.5", ""),
        ("2", "comment", "", "funny"),
    ]
    assert [r["category"] for r in read(tmp_path / "out" / "catalog")] == ["Action|Thriller", ""]


def test_the_sample_is_the_same_for_the_same_seed(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_sample(str(tmp_path / name), events=500, users=20, products=50, days=4, seed=seed)
    assert read(tmp_path / "a") == read(tmp_path / "b")
    assert read(tmp_path / "a") != read(tmp_path / "c")


def test_the_sample_has_taste_funnels_and_a_few_per_cent_of_dirt(tmp_path):
    counts = write_sample(str(tmp_path), events=20_000, users=300, products=400, days=28)
    rows = read(tmp_path / "behaviors")
    catalog = {row["item_id"]: row for row in read(tmp_path / "catalog")}
    events = Counter(row["event"] for row in rows)
    assert events["view"] > events["click"] > events["cart"] > events["purchase"] > events["rating"] > 0
    dirty = sum(count for label, count in counts.items() if label.startswith("of these"))
    assert 0.01 < dirty / len(rows) < 0.06
    # Taste: two purchases of one user share a theme far more often than two of anybody's.
    bought: dict[str, list[str]] = {}
    for row in rows:
        if row["event"] == "purchase" and row["user_id"] and row["item_id"]:
            bought.setdefault(row["user_id"], []).append(catalog[row["item_id"]]["category"].split("|")[0])
    pairs = [(a, b) for themes in bought.values() for a, b in itertools.pairwise(themes)]
    everybody = Counter(theme for themes in bought.values() for theme in themes)
    chance = sum((n / everybody.total()) ** 2 for n in everybody.values())
    assert sum(a == b for a, b in pairs) / len(pairs) > 2 * chance


def test_the_sample_s_memory_does_not_grow_with_its_events(tmp_path):
    peaks = []
    for events in (20_000, 400_000):
        code = (
            "import resource; from pipeline.data.sample import write_sample;"
            f"write_sample({str(tmp_path / str(events))!r}, events={events});"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout))
    assert peaks[1] < 1.1 * peaks[0]
