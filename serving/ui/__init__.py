"""The home-feed page of `homefeed serve --ui`: files, and what the model itself does not know: titles and histories.

All answers come from the public REST API, asked by the page.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

PATH = "/ui/"
_FILES = Path(__file__).parent
_KINDS = {
    "index.html": "text/html",
    "app.js": "text/javascript",
    "words.js": "text/javascript",
    "style.css": "text/css",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
_MOST_ITEMS = 200  # that one request may ask about


@dataclass(frozen=True)
class Shown:
    """What the page shows beside the model's answers.

    Attributes:
      model: its name in the REST API.
      items: item id -> {"title", "category", "price"}, as far as the catalogue has them.
      users: [{"id", "history": [[item id, event, seconds since 1970], …]}, …], histories with the newest first.
    """

    model: str
    items: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    users: list[dict[str, Any]] = field(default_factory=list)


def ui_routes(shown: Shown) -> list[Route]:
    """The page's routes."""

    async def start(_: Request) -> Response:
        return RedirectResponse(PATH)

    async def file(request: Request) -> Response:
        name = request.path_params["name"] or "index.html"
        if name not in _KINDS:
            return Response("Not Found", status_code=404, media_type="text/plain")
        return FileResponse(_FILES / name, media_type=_KINDS[name], headers=_HEADERS)

    async def about(_: Request) -> Response:
        return JSONResponse({"model": shown.model, "items": len(shown.items), "users": shown.users}, headers=_HEADERS)

    async def items(request: Request) -> Response:
        asked = request.query_params.getlist("id")[:_MOST_ITEMS]
        return JSONResponse({item: shown.items.get(item, {}) for item in asked}, headers=_HEADERS)

    return [
        Route("/", start),
        Route("/ui/data/about", about),
        Route("/ui/data/items", items),
        Route("/ui", start),
        Route("/ui/{name:path}", file),
    ]
