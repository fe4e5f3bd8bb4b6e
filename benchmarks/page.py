"""How long a person waits for the home-feed page: from the key to the list on the screen, in headless Chromium.

    python -m benchmarks.page --workspace demo/workspace --shop demo/shop

Chromium is taken from PATH, or from CHROMIUM. The page, the server and the browser share the machine.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from schema import names

_PORT = 18_911
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
# Sends a form and waits until the page is not busy any more: milliseconds, as far as frames tell them.
_ASK = """async ([input, form, text]) => {
  document.getElementById(input).value = text;
  const start = performance.now();
  document.getElementById(form).requestSubmit();
  const isBusy = () => document.getElementById("lists").hasAttribute("aria-busy");
  await new Promise((done) => {
    const look = () => (isBusy() ? requestAnimationFrame(look) : done());
    requestAnimationFrame(look);
  });
  return performance.now() - start;
}"""
_WORDS = ("candle", "something for the garden", "a present", "warm on cold nights", "vintage", "for children")


@retry(stop=stop_after_delay(120), wait=wait_fixed(1), retry=retry_if_exception_type(httpx.HTTPError), reraise=True)
def about() -> Any:
    """What the page knows, once the server answers."""
    return httpx.get(f"http://localhost:{_PORT}/ui/data/about").raise_for_status().json()


def waited(page: Page, field: str, form: str, texts: list[str]) -> list[float]:
    """Milliseconds for each text; the first, which learns titles and compiles, is left out."""
    return [page.evaluate(_ASK, [field, form, text]) for text in texts][1:]


@click.command()
@click.option("--workspace", required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--shop", required=True, type=click.Path(exists=True, path_type=Path), help="Its behaviors/ and catalog/."
)
@click.option("--count", default=50, show_default=True, help="Users that are looked at.")
def main(workspace: Path, shop: Path, count: int) -> None:
    """Prints the table."""
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--ui", "--port=0", f"--rest_api_port={_PORT}"]
    command += [f"--grpc_socket_path={workspace.resolve()}/.page", f"--model_name={names.MODEL_NAME}"]
    command += [f"--model_base_path={workspace / 'serving' / names.MODEL_NAME}"]
    command += [f"--{table}={shop / table}" for table in (names.CATALOG, names.BEHAVIORS)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        users = [user["id"] for user in about()["users"]][: count + 1]
        with sync_playwright() as playwright:
            chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
            page = browser.new_page()
            page.goto(f"http://localhost:{_PORT}/ui/?lang=en")
            page.wait_for_selector(".list li")
            found = {
                "a user's feed": waited(page, "user", "person", users),
                "a search": waited(page, "query", "find", [*_WORDS] * (count // len(_WORDS) + 1)),
            }
            browser.close()
    finally:
        server.terminate()
        server.wait(60)
    table = Table("", "asked", "median", "95th percentile", "slowest", title="From the key to the list, milliseconds")
    for what, times in found.items():
        figures = (np.median(times), np.percentile(times, 95), max(times))
        table.add_row(what, str(len(times)), *(f"{figure:.0f}" for figure in figures))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
