"""`make demo`: a generated shop, trained, gated, pushed, served and asked, from nothing, in one command."""

import csv
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import pipeline.quiet  # noqa: F401  (before anything imports TensorFlow)
from components.model_server import EMBEDDED_COMMAND, model_server
from pipeline.tables import answer_table, read_titles
from schema import names
from serving.client import connect

FOLDER = Path("demo")
_SEARCH = "something to keep warm on cold nights"


def main() -> int:
    """Runs the demo in `demo/`; steps that are done already are not done again."""
    console = Console()
    data, workspace = FOLDER / "shop", FOLDER / "workspace"
    behaviors, catalog = data / names.BEHAVIORS, data / names.CATALOG
    if not behaviors.exists():
        console.rule("A small shop: 2,000 products, 1,500 users, 60,000 events")
        _homefeed("data", "sample", "--out", data)
    console.rule("Validate, train, evaluate, push")
    _homefeed("run", "--behaviors", behaviors, "--catalog", catalog, "--workspace", workspace)
    console.rule("Serve and ask")
    base = workspace / "serving" / names.MODEL_NAME
    with model_server(EMBEDDED_COMMAND, str(base)) as (addresses, _):
        _ask(console, addresses, behaviors, catalog)
    console.rule("Yours")
    console.print(
        "Keep it running, with a page at http://localhost:8501/ui/:\n"
        f"  .venv/bin/homefeed serve --rest_api_port=8501 --model_name={names.MODEL_NAME} --model_base_path={base} "
        f"--ui --catalog {catalog} --behaviors {behaviors}\n"
        "and ask it, from another terminal:\n"
        f"  .venv/bin/homefeed query recommend U000007 --catalog {catalog}\n"
        '  curl -d \'{"instances": [{"user_id": "U000007", "history_item_ids": []}]}\' '
        f"http://localhost:8501/v1/models/{names.MODEL_NAME}:predict",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _ask(console: Console, addresses: dict[str, str], behaviors: Path, catalog: Path) -> None:
    over_grpc, over_rest = (connect(addresses[protocol], names.MODEL_NAME) for protocol in ("gRPC", "REST"))
    titles = read_titles(str(catalog))
    user, bought = _a_regular(behaviors)
    had = Table("item", "title", title=f"What {user} bought last")
    for item in bought[-5:][::-1]:
        had.add_row(item, titles[item])
    console.print(had)
    feed = over_grpc.predict(names.RECOMMEND, {names.USER_ID: [user], names.K: [8]})
    console.print(answer_table(f"The feed of {user}, over gRPC", feed, titles))
    history = [[bought[-1], bought[-2]]]
    newcomer = {names.USER_ID: ["somebody new"], names.HISTORY_ITEM_IDS: history, names.K: [5]}
    title = f"A newcomer who has looked at “{titles[bought[-1]]}” and “{titles[bought[-2]]}”, over REST"
    console.print(answer_table(title, over_rest.predict(names.RECOMMEND, newcomer), titles))
    found = over_rest.predict(names.SEARCH, {names.QUERY: [_SEARCH], names.K: [5]})
    console.print(answer_table(f"Search: “{_SEARCH}”, over REST", found, titles))
    similar = over_grpc.predict(names.SIMILAR_ITEMS, {names.ITEM_ID: [bought[-1]], names.K: [5]})
    console.print(answer_table(f"Similar to “{titles[bought[-1]]}”, over gRPC", similar, titles))


def _a_regular(behaviors: Path) -> tuple[str, list[str]]:
    """The first user, by id, with eight different purchases or more, and what they bought, oldest first."""
    purchases: dict[str, list[str]] = {}
    for file in sorted(behaviors.glob("*/*.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                if row[names.EVENT] == "purchase" and row[names.USER_ID] and row[names.ITEM_ID]:
                    items = purchases.setdefault(row[names.USER_ID], [])
                    if row[names.ITEM_ID] not in items:
                        items.append(row[names.ITEM_ID])
    return next((user, items) for user, items in sorted(purchases.items()) if len(items) >= 8)


def _homefeed(*arguments: object) -> None:
    code = subprocess.run([sys.executable, "-m", "pipeline.cli", *map(str, arguments)]).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
