"""The home-feed page, in headless Chromium where there is one: what a person sees and does."""

import os
import shutil
from collections.abc import Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from pipeline.shown import read_shown
from schema import names
from serving.flags import Flags
from serving.server import running_server
from tests.conftest import Shop

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
# It looks nothing up on the way, and its sandbox is not for root.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium; set CHROMIUM to its path")


@pytest.fixture(scope="module")
def address(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    base = tmp_path_factory.mktemp("two_versions")
    for version in ("1", "2"):
        (base / version).symlink_to(shop.version)
    shown = read_shown(names.MODEL_NAME, str(shop.catalog), str(shop.behaviors))
    flags = Flags(port=-1, rest_api_port=-1, model_name=names.MODEL_NAME, model_base_path=str(base))
    with running_server(flags, shown) as (_, port):
        yield f"http://localhost:{port}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def is_fault(message: ConsoleMessage) -> bool:
    """A request that a server refuses is no fault of the page, which is to tell it."""
    return message.type == "error" and "Failed to load resource" not in message.text


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    page = browser.new_page(locale="en-US")
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if is_fault(message) else None)
    page.goto(f"{address}/")
    expect(page.locator(".list li").first).to_be_visible(timeout=30_000)
    yield page
    assert not faults
    page.close()


def test_what_is_no_file_of_the_page_is_not_there(address: str):
    for path in ("/ui/__init__.py", "/ui/../server.py", "/ui/%2e%2e/server.py", "/ui/none/app.js"):
        assert httpx.get(address + path).status_code in (400, 404), path
    page = httpx.get(f"{address}/", follow_redirects=True)
    assert page.headers["content-security-policy"].startswith("default-src 'self'") and "app.js" in page.text


def test_titles_and_histories_are_the_shop_s(address: str, shop: Shop):
    about = httpx.get(f"{address}/ui/data/about").json()
    line = (sorted(shop.catalog.rglob("*.csv"))[0]).read_text(encoding="utf-8").splitlines()[1]
    item, title = line.split(",")[:2]
    assert httpx.get(f"{address}/ui/data/items", params={"id": [item, "nobody"]}).json() == {
        item: {"title": title, **httpx.get(f"{address}/ui/data/items", params={"id": item}).json()[item]},
        "nobody": {},
    }
    newest = [moment for _, _, moment in about["users"][0]["history"]]
    assert newest == sorted(newest, reverse=True)
    counts = [len(user["history"]) for user in about["users"]]
    assert 150 < len(counts) <= 200 and max(counts) <= 50 and counts[0] == max(counts)


@needs_chromium
def test_a_feed_is_the_api_s(page: Page, address: str):
    user = page.input_value("#user")
    request = {"signature_name": names.SERVING_DEFAULT, "inputs": {"user_id": [user], "history_item_ids": [[""]]}}
    answer = httpx.post(f"{address}/v1/models/{names.MODEL_NAME}:predict", json=request).json()["outputs"]
    asked = httpx.get(f"{address}/ui/data/items", params={"id": answer["item_ids"][0][:12]}).json()
    expect(page.locator(".list .name")).to_have_text([asked[item]["title"] for item in answer["item_ids"][0][:12]])
    expect(page.locator("#what")).to_have_text(f"The feed of {user}")
    assert page.locator("#history li").count() > 0
    assert f"score {answer['scores'][0][0]:.3f}" in page.locator(".list li").first.inner_text()


@needs_chromium
def test_the_keyboard_is_enough(page: Page):
    page.keyboard.press("/")
    page.keyboard.type("candle")
    page.keyboard.press("Enter")
    expect(page.locator("#what")).to_have_text("Found for “candle”")
    page.keyboard.press("Escape")
    expect(page.locator("#what")).to_contain_text("The feed of")
    expect(page.locator("#lists")).not_to_have_attribute("aria-busy", "true")
    page.keyboard.press("i")
    expect(page.locator("#what")).to_have_text("The feed of an invented user")
    expect(page.locator("#history li")).to_have_count(0)
    expect(page.locator("#lists")).not_to_have_attribute("aria-busy", "true")
    page.keyboard.press("j")
    page.keyboard.press("j")
    liked = page.evaluate("document.activeElement.querySelector('.name').textContent")
    assert liked == page.locator(".list .name").nth(1).inner_text()
    page.keyboard.press("a")
    expect(page.locator("#history li")).to_have_count(1)
    expect(page.locator("#history li")).to_contain_text(liked)
    expect(page.locator(".list .name").first).to_be_visible()
    assert liked not in page.locator(".list .name").all_inner_texts()  # what a user has is not recommended again
    page.keyboard.press("j")
    page.keyboard.press("s")
    expect(page.locator("#what")).to_contain_text("Like “")


@needs_chromium
def test_sliders_change_the_feed_and_tell_the_chance(page: Page):
    page.locator("#diversity").fill("1")
    page.locator("#diversity").dispatch_event("change")
    expect(page.locator("#diversityIs")).to_have_text("1")
    page.locator("#exploration").fill("2")
    page.locator("#exploration").dispatch_event("change")
    expect(page.locator(".list li").first).to_contain_text("chance")


@needs_chromium
def test_two_versions_beside_each_other(page: Page):
    page.select_option("#other", "1")
    expect(page.locator("#lists section")).to_have_count(2)
    expect(page.locator("#lists h3")).to_have_text(["Version 2", "Version 1"])
    expect(page.locator(".list").first.locator("li").first).to_contain_text("same place")  # they are the same model


@needs_chromium
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(browser: Browser, address: str, language: str, scheme: str):
    page = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})
    page.goto(f"{address}/ui/?lang={language}")
    expect(page.locator(".list li").first).to_be_visible(timeout=30_000)
    page.select_option("#other", "1")
    expect(page.locator("#lists h3").first).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == language
    expect(page.locator("#invent")).to_have_text({"en": "Invent a user", "zh": "虚构一位用户"}[language])
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"]) for one in found if one["impact"] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


@needs_chromium
def test_a_refusal_is_told(page: Page):
    page.route("**/*:predict", lambda route: route.fulfill(status=503, json={"error": "away for a moment"}))
    page.keyboard.press("i")
    expect(page.locator("#wrong")).to_have_text("The server did not answer: away for a moment")
    page.unroute("**/*:predict")
    page.reload()
    expect(page.locator("#wrong")).to_have_text("")
