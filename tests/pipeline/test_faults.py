"""Faults planted into one day of a healthy log, or into its catalogue: each is caught and named, no other day is."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import load_config
from pipeline.data.sample import write_sample
from pipeline.data_checks import validate_folder
from schema import names
from schema.errors import InputError

DAY, DAY_BEFORE = "2025-02-05", "2025-02-04"  # of 2025-01-06 to 2025-02-09
Change = Callable[[pd.DataFrame], pd.DataFrame]


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def write(path: Path, rows: pd.DataFrame) -> None:
    rows.to_csv(path, index=False, lineterminator="\n")


def log_file(shop: Path, day: str = DAY) -> Path:
    return shop / names.BEHAVIORS / day / "behaviors.csv"


def catalog_file(shop: Path) -> Path:
    return shop / names.CATALOG / "catalog.csv"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    """Five weeks of a shop whose web site and app log into the same folders."""
    folder = tmp_path_factory.mktemp("healthy")
    write_sample(str(folder), events=42_000, users=600, products=500, days=35, seed=5)
    for path in (folder / names.BEHAVIORS).glob("*/*.csv"):
        rows = read(path)
        rows[names.SOURCE] = ["app" if n % 3 == 0 else "web" for n in range(len(rows))]
        write(path, rows)
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """Shared, so that the days without a fault are read once for all tests."""
    return tmp_path_factory.mktemp("workspace")


def rows(change: Change) -> Callable[[Path], None]:
    """A fault in the day's rows."""
    return lambda shop: write(log_file(shop), change(read(log_file(shop))))


def items(change: Change) -> Callable[[Path], None]:
    """A fault in the catalogue's rows."""
    return lambda shop: write(catalog_file(shop), change(read(catalog_file(shop))))


def content(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A fault in the bytes of the day's file."""
    return lambda shop: log_file(shop).write_bytes(change(log_file(shop).read_bytes()))  # type: ignore[func-returns-value]


def shifted(hours: float) -> Change:
    return lambda day: day.assign(timestamp=(day[names.TIMESTAMP].astype(int) + int(hours * 3600)).astype(str))


def shifted_within_day(day: pd.DataFrame) -> pd.DataFrame:
    """Four hours ahead, without the rows that would fall out of the day."""
    moved = shifted(4)(day)
    return moved[moved[names.TIMESTAMP].astype(int) // 86_400 == int(day[names.TIMESTAMP].iloc[0]) // 86_400]


def only(share: float, change: Change) -> Change:
    """The change in the first rows of the day only."""

    def changed(day: pd.DataFrame) -> pd.DataFrame:
        count = int(share * len(day))
        return pd.concat([change(day.iloc[:count].copy()), day.iloc[count:]])

    return changed


def bot_burst(day: pd.DataFrame) -> pd.DataFrame:
    noon = int(day[names.TIMESTAMP].astype(int).median()) // 3600 * 3600
    burst = pd.concat([day.iloc[:1]] * 5_000, ignore_index=True)
    burst[names.USER_ID], burst[names.EVENT] = "U999999", "view"
    burst[names.TIMESTAMP] = [str(noon + n % 3600) for n in range(5_000)]
    burst[names.ITEM_ID] = [day[names.ITEM_ID].iloc[n % len(day)] or "P000001" for n in range(5_000)]
    return pd.concat([day, burst])


def skewed_source(day: pd.DataFrame) -> pd.DataFrame:
    """The app's clock is four hours ahead; what falls out of the day is not there."""
    is_app = day[names.SOURCE] == "app"
    moved = day[names.TIMESTAMP].astype(int) + 4 * 3600 * is_app
    same_day = moved // 86_400 == moved[~is_app].iloc[0] // 86_400
    return day.assign(timestamp=moved.astype(str))[same_day]


def comments_in(encoding: str) -> Callable[[Path], None]:
    def change(shop: Path) -> None:
        day = read(log_file(shop))
        day.loc[day.index[:40], names.COMMENT] = "très joli café"
        log_file(shop).write_bytes(day.to_csv(index=False, lineterminator="\n").encode(encoding))

    return change


def double_encoded(day: pd.DataFrame) -> pd.DataFrame:
    day.loc[day.index[:60], names.COMMENT] = "très joli café".encode().decode("latin-1")
    return day


def without_views(day: pd.DataFrame) -> pd.DataFrame:
    """Of four users in five."""
    lost = day[names.EVENT].isin(["view", "click"]) & ~day[names.USER_ID].str.endswith(("0", "5"))
    return day[~lost]


def sessions_to_clicks(day: pd.DataFrame) -> pd.DataFrame:
    return day.assign(event=day[names.EVENT].replace({"view": "click"}))


def ratings_in_percent(day: pd.DataFrame) -> pd.DataFrame:
    is_rating = day[names.EVENT] == "rating"
    return day.assign(value=day[names.VALUE].where(~is_rating, (pd.to_numeric(day[names.VALUE]) * 20).astype(str)))


def with_more_ratings(shop: Path) -> None:
    """Rules on ratings want fifty of them a day."""
    for path in (shop / names.BEHAVIORS).glob("*/*.csv"):
        day = read(path)
        day.loc[day.index[:150:2], [names.EVENT, names.VALUE]] = ["rating", "4"]
        write(path, day)


def rating_scale(shop: Path) -> None:
    with_more_ratings(shop)
    rows(ratings_in_percent)(shop)


def pieces_in_thousands(shop: Path) -> None:
    for path in (shop / names.BEHAVIORS).glob("*/*.csv"):
        day = read(path)
        unit = "2000" if path.parent.name == DAY else "2"
        day.loc[day.index[:300:2], [names.EVENT, names.VALUE]] = ["purchase", unit]
        write(path, day)


def renamed(old: str, new: str) -> Change:
    return lambda day: day.rename(columns={old: new})


def swapped(one: str, other: str) -> Change:
    return lambda day: day.rename(columns={one: other, other: one})


def filled(column: str, value: str) -> Change:
    return lambda day: day.assign(**{column: value})


def replaced(column: str, pattern: str, by: str) -> Change:
    return lambda day: day.assign(**{column: day[column].str.replace(pattern, by, regex=True)})


@dataclass(frozen=True)
class Fault:
    """What is planted, and what has to be said.

    Attributes:
      expected: the rule that names it, or words of the sentence by which the input is refused.
      blocks: whether the gate refuses.
      of_the_day: whether the day is named (the catalogue's faults are of no day).
    """

    name: str
    plant: Callable[[Path], None]
    expected: str
    blocks: bool = True
    of_the_day: bool = True


REFUSED = "refused: "
FAULTS = (
    Fault("timestamps as text", rows(filled(names.TIMESTAMP, "2025-02-05T12:00:00")), "bad_timestamp"),
    Fault("timestamps in milliseconds", rows(replaced(names.TIMESTAMP, "(?:$)", "000")), "future_timestamp"),
    Fault("timestamps before 1970", rows(replaced(names.TIMESTAMP, "(?:^)", "-")), "negative_timestamp"),
    Fault("a clock in the next century", rows(only(0.05, shifted(24 * 365 * 80))), "future_timestamp"),
    Fault("ratings of 1 to 5 become percent", rating_scale, "scale_changed"),
    Fault("pieces become thousandths", pieces_in_thousands, "scale_changed"),
    Fault("a required column is gone", rows(lambda d: d.drop(columns=names.EVENT)), REFUSED + "no column event"),
    Fault("a column is renamed", rows(renamed(names.TIMESTAMP, "time")), REFUSED + "no column timestamp"),
    Fault("an optional column is gone", rows(lambda d: d.drop(columns=names.VALUE)), "column_emptied"),
    Fault("users and items change places", rows(swapped(names.USER_ID, names.ITEM_ID)), "unknown_item"),
    Fault("events and timestamps change places", rows(swapped(names.EVENT, names.TIMESTAMP)), "bad_timestamp"),
    Fault("the day is there twice", rows(lambda d: pd.concat([d, d])), "duplicate_event"),
    Fault(
        "the day is the day before",
        lambda shop: shutil.copy(log_file(shop, DAY_BEFORE), log_file(shop)),  # type: ignore[arg-type, return-value]
        "wrong_day",
    ),
    Fault("the file breaks off in a row", content(lambda b: b[: len(b) * 9 // 10].rsplit(b",", 3)[0]), "broken_row"),
    Fault("the file breaks off between rows", rows(lambda d: d.head(100)), "few_rows", blocks=False),
    Fault("a time zone east", rows(shifted(5)), "wrong_day"),
    Fault("a time zone west", rows(shifted(-6)), "clock_shift"),
    Fault(
        "a time zone, cut to the day",
        rows(shifted_within_day),
        "clock_shift",
    ),
    Fault("one source's clock is ahead", rows(skewed_source), "clock_skew"),
    Fault("item ids lose their letter", rows(replaced(names.ITEM_ID, "^P", "")), "unknown_item"),
    Fault("user ids lose their letter", rows(replaced(names.USER_ID, "^U", "")), "id_format_changed"),
    Fault("ids with spaces", rows(replaced(names.USER_ID, "(?:$)", " ")), "bad_id"),
    Fault("null as a user", rows(only(0.3, filled(names.USER_ID, "NULL"))), "null_word"),
    Fault("no users", rows(filled(names.USER_ID, "")), "missing_user"),
    Fault("a bot", rows(bot_burst), "bot", blocks=False),
    Fault("an event is renamed", rows(replaced(names.EVENT, "view", "impression")), "unknown_event"),
    Fault("an event drifts", rows(sessions_to_clicks), "comparator_l_infty_high", blocks=False),
    Fault("views are lost", rows(without_views), "purchase_without_view", blocks=False),
    Fault("Latin-1", comments_in("latin-1"), "invalid_utf8"),
    Fault("UTF-16", content(lambda b: b.decode().encode("utf-16")), REFUSED + "UTF-8"),
    Fault("encoded twice", rows(double_encoded), "garbled_text", blocks=False),
    Fault("semicolons", content(lambda b: b.replace(b",", b";")), REFUSED + "no column user_id"),
    Fault("an empty file", content(lambda b: b""), REFUSED + "is empty"),
    Fault("a header alone", rows(lambda d: d.head(0)), REFUSED + "no rows"),
    Fault("a quote that never closes", content(lambda b: b.replace(b"\n", b'\n"', 31)), "broken_row"),
    Fault("the day is missing", lambda shop: shutil.rmtree(log_file(shop).parent), "missing_day", blocks=False),
    Fault(
        "the day is there under two names",
        lambda shop: shutil.copytree(log_file(shop).parent, shop / names.BEHAVIORS / "20250205"),  # type: ignore[arg-type, return-value]
        REFUSED + "same day",
    ),
    Fault(
        "a folder that is no day",
        lambda shop: shutil.copytree(log_file(shop).parent, shop / names.BEHAVIORS / "backup"),  # type: ignore[arg-type, return-value]
        REFUSED + "not called after a day",
    ),
    Fault("half the catalogue is gone", items(lambda c: c.iloc[::2]), "unknown_item", of_the_day=False),
    Fault("items are there twice", items(lambda c: pd.concat([c, c.head(5)])), "duplicate_item", of_the_day=False),
    Fault("prices with a currency", items(replaced(names.PRICE, "(?:$)", " €")), "unreadable_value", of_the_day=False),
    Fault("negative prices", items(replaced(names.PRICE, "(?:^)", "-")), "bad_price", of_the_day=False),
    Fault("no titles", items(filled(names.TITLE, "")), "missing_title", of_the_day=False),
    Fault("a book for a title", items(only(0.01, filled(names.TITLE, "x" * 3_000))), "long_text", of_the_day=False),
)


def test_there_are_thirty_faults_and_more():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30


@pytest.mark.slow
def test_the_healthy_log_passes_without_a_word(healthy, workspace):
    outcome = validate_folder(load_config(), str(healthy), str(workspace))
    assert outcome.blessed
    assert [found for found in outcome.findings if found["severity"] != "info"] == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught_and_named(healthy, workspace, tmp_path, fault):
    shop = tmp_path / "shop"
    shutil.copytree(healthy, shop)
    fault.plant(shop)
    if fault.expected.startswith(REFUSED):
        with pytest.raises(InputError, match=fault.expected.removeprefix(REFUSED)) as error:
            validate_folder(load_config(), str(shop), str(workspace))
        assert "\n" not in str(error.value)
        return
    outcome = validate_folder(load_config(), str(shop), str(workspace))
    told = [found for found in outcome.findings if found["severity"] != "info"]
    (found,) = [found for found in told if found["rule"] == fault.expected]
    assert found["examples"] and found["what"] and found["do"]
    assert outcome.blessed == (not fault.blocks)
    if fault.of_the_day:
        following = "2025-02-06"  # a gap, and drift back to normal, are told of the day after
        for blocking in (f for f in told if f["severity"] == "error" or f is found):
            assert all(e.startswith((DAY, following)) for e in blocking["examples"]), blocking
