"""UCI Online Retail (Daqing Chen, 2015, doi 10.24432/C5BW33): every sale of a UK gift shop in a year."""

import csv
import datetime as dt
import io
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import openpyxl

from pipeline.data.archive import RowsChecksum, open_archive
from pipeline.data.writer import write_dataset
from schema import names
from schema.errors import InputError

URL = "https://archive.ics.uci.edu/static/public/352/online+retail.zip"
ROWS_CHECKSUM = "e8ee23e9ea878d42"
# Products have five digits and perhaps letters; POST, M, D, BANK CHARGES and the like are adjustments.
_PRODUCT = re.compile(r"\d{5}[A-Z]*", re.IGNORECASE)


def write_online_retail(
    out: str,
    archive: str | None = None,
    start: dt.date | None = None,
    until: dt.date | None = None,
    everything: bool = False,
) -> Counter[str]:
    """Writes Online Retail as daily folders of purchases and returns, and its products as the catalog.

    A sale is a `purchase`, a row of negative quantity a `return`, `value` the number of pieces. Rows without a customer
    and rows that are no product are dropped and counted. The catalog holds every product of the archive with its most
    frequent description and its median price, whatever days are selected.

    Args:
      out: folder that gets `behaviors/` and `catalog/`.
      archive: the publisher's zip (a workbook, or daily CSV files); None downloads it.
      start: first day that is written.
      until: first day that is not written any more.
      everything: write the rows without a customer and those that are no product too, and each row's description as
        `title`: the log as the shop has it, for `homefeed data validate`.

    Returns:
      What was written, mapped and dropped: label -> rows.

    Raises:
      InputError: the archive is not the published one, or `out` is taken.
    """
    checksum = RowsChecksum()
    titles: dict[str, Counter[str]] = defaultdict(Counter)
    prices: dict[str, list[float]] = defaultdict(list)
    with write_dataset(out, (names.TITLE,) if everything else ()) as writer, open_archive(URL, archive) as file:
        counts = writer.counts
        for row in invoice_rows(file):
            checksum.add(row["InvoiceNo"], row["StockCode"], int(float(row["Quantity"])))
            counts["rows read"] += 1
            stock_code, title = row["StockCode"].strip().upper(), " ".join(row["Description"].split())
            is_product, customer = _PRODUCT.fullmatch(stock_code), row["CustomerID"]
            if not everything and not is_product:
                counts["dropped: no product (postage, fees, adjustments)"] += 1
                continue
            if not everything and not customer:
                counts["dropped: no customer"] += 1
                continue
            if is_product and customer:
                if title:
                    titles[stock_code][title] += 1
                prices[stock_code].append(float(row["UnitPrice"]))
            quantity, moment = int(float(row["Quantity"])), _utc(row["InvoiceDate"])
            if (start and moment.date() < start) or (until and moment.date() >= until):
                counts["outside the selected days"] += 1
                continue
            counts["mapped: negative quantity to the event `return`"] += quantity < 0
            writer.behavior(
                {
                    names.USER_ID: str(int(float(customer))) if customer else "",
                    names.ITEM_ID: stock_code,
                    names.EVENT: "return" if quantity < 0 else "purchase",
                    names.TIMESTAMP: int(moment.timestamp()),
                    names.VALUE: abs(quantity),
                    **({names.TITLE: title} if everything else {}),
                },
                day=moment.strftime("%Y-%m-%d"),
            )
        checksum.verify(ROWS_CHECKSUM, archive or URL)
        counts["products without a description, titled by their code"] = sum(code not in titles for code in prices)
        writer.catalog(_catalog(titles, prices))
    return counts


def _catalog(titles: dict[str, Counter[str]], prices: dict[str, list[float]]) -> Iterator[dict[str, Any]]:
    for code in sorted(prices):
        known = titles.get(code)
        title = min(known, key=lambda text: (-known[text], text)) if known else code
        middle = sorted(prices[code])[len(prices[code]) // 2]
        yield {names.ITEM_ID: code, names.TITLE: title, names.PRICE: middle}


def _utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc)


def invoice_rows(file: zipfile.ZipFile) -> Iterator[dict[str, str]]:
    """Rows of the daily CSV files, or of the publisher's workbook: column -> text, empty where there is no value."""
    members = sorted(name for name in file.namelist() if name.endswith((".csv", ".xlsx")))
    if not members:
        raise InputError(f"{file.filename}: holds no .csv and no .xlsx; give the Online Retail archive.")
    for member in members:
        with file.open(member) as content:
            if member.endswith(".csv"):
                yield from csv.DictReader(io.TextIOWrapper(content, encoding="utf-8", newline=""))
                continue
            sheet = openpyxl.load_workbook(content, read_only=True).worksheets[0]
            lines = sheet.iter_rows(values_only=True)
            header = [str(cell) for cell in next(lines)]
            for line in lines:
                yield {key: "" if cell is None else str(cell) for key, cell in zip(header, line, strict=True)}
