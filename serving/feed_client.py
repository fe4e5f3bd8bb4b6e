"""The home feed for a page's code: typed questions and answers, and something to show when the server is away."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schema import names
from schema.errors import InputError
from schema.files import replace_text
from serving.calls import AWAY, RequestFailed
from serving.client import Client
from serving.grpc_client import AsyncGrpcClient
from serving.rest_client import AsyncRestClient

POPULAR = "popular"


@dataclass(frozen=True)
class Item:
    """One place of a list.

    Attributes:
      item_id: of the catalogue.
      score: of the model; 0 where the list is a fall-back.
      reason: why it is shown; empty where the signature gives none.
      propensity: the probability with which it was drawn for its place; 1 where nothing was drawn.
    """

    item_id: str
    score: float
    reason: str = ""
    propensity: float = 1.0


@dataclass(frozen=True)
class Feed:
    """An answer.

    Attributes:
      items: best first.
      is_fallback: the server was away, and these are what was popular lately.
    """

    items: list[Item]
    is_fallback: bool = False


class Popular:
    """What was popular when the server was last asked, kept in a file that outlives the process.

    Args:
      path: of the file; read where it is there.

    Raises:
      InputError: the file is there and is not such a list.
    """

    def __init__(self, path: str):
        self._path = Path(path)
        self.items: list[Item] = []
        if self._path.exists():
            try:
                self.items = [Item(**item) for item in json.loads(self._path.read_text(encoding="utf-8"))]
            except (ValueError, TypeError) as error:
                raise InputError(f"{path}: is no list of popular items ({error}); delete it.") from error

    def keep(self, items: Iterable[Item]) -> None:
        """Replaces the list; the file is whole at every moment."""
        self.items = [Item(item.item_id, 0.0, POPULAR) for item in items]
        replace_text(self._path, json.dumps([asdict(item) for item in self.items]))

    def without(self, unwanted: Iterable[str], k: int) -> Feed:
        """The first k that are not unwanted."""
        left_out = set(unwanted)
        return Feed([item for item in self.items if item.item_id not in left_out][:k], is_fallback=True)


class HomeFeed:
    """Asks for one user's lists.

    Args:
      client: of `connect`.
      popular: what is shown where the server is away; without it the error is the caller's. Fill it with `remember`,
        at the start and every hour or so.
    """

    def __init__(self, client: Client, popular: Popular | None = None):
        self._client, self._popular = client, popular

    def remember(self, k: int = 200) -> None:
        """Asks for what is popular now: the list of somebody of whom nothing is known. Raises RequestFailed."""
        if self._popular is not None:
            self._popular.keep(_feed(self._client.predict(names.RECOMMEND, _recommend("", k=k))).items)

    def recommend(self, user_id: str, history: Sequence[str] = (), k: int = 20, **controls: Any) -> Feed:
        """The home feed.

        Args:
          user_id: of the user; empty for somebody without one.
          history: items of this visit, the newest first; without any, what is known of the user counts.
          k: length of the list.
          controls: further inputs of the signature `recommend`, each for one user: `exclude_item_ids` a list,
            `diversity`, `exploration`, `seed`, `timestamp`, `traits` a list, …

        Raises:
          RequestFailed: the server refuses the request, or is away and there is no fall-back.
        """
        asked = _recommend(user_id, history, k, **controls)
        try:
            return _feed(self._client.predict(names.RECOMMEND, asked))
        except RequestFailed as error:
            return _fall_back(self._popular, error, [*history, *controls.get(names.EXCLUDE_ITEM_IDS, ())], k)

    def similar_items(self, item_id: str, k: int = 20) -> Feed:
        """Items like one. Raises RequestFailed."""
        return _feed(self._client.predict(names.SIMILAR_ITEMS, {names.ITEM_ID: [item_id], names.K: [k]}))

    def search(self, text: str, user_id: str = "", k: int = 20) -> Feed:
        """Items by their text. Raises RequestFailed."""
        return _feed(self._client.predict(names.SEARCH, {names.QUERY: [text], names.USER_ID: [user_id], names.K: [k]}))


class AsyncHomeFeed:
    """As `HomeFeed`, over a client of `connect_async`; its methods are awaited."""

    def __init__(self, client: AsyncGrpcClient | AsyncRestClient, popular: Popular | None = None):
        self._client, self._popular = client, popular

    async def remember(self, k: int = 200) -> None:
        """See `HomeFeed.remember`."""
        if self._popular is not None:
            self._popular.keep(_feed(await self._client.predict(names.RECOMMEND, _recommend("", k=k))).items)

    async def recommend(self, user_id: str, history: Sequence[str] = (), k: int = 20, **controls: Any) -> Feed:
        """See `HomeFeed.recommend`."""
        asked = _recommend(user_id, history, k, **controls)
        try:
            return _feed(await self._client.predict(names.RECOMMEND, asked))
        except RequestFailed as error:
            return _fall_back(self._popular, error, [*history, *controls.get(names.EXCLUDE_ITEM_IDS, ())], k)

    async def similar_items(self, item_id: str, k: int = 20) -> Feed:
        """See `HomeFeed.similar_items`."""
        return _feed(await self._client.predict(names.SIMILAR_ITEMS, {names.ITEM_ID: [item_id], names.K: [k]}))

    async def search(self, text: str, user_id: str = "", k: int = 20) -> Feed:
        """See `HomeFeed.search`."""
        asked = {names.QUERY: [text], names.USER_ID: [user_id], names.K: [k]}
        return _feed(await self._client.predict(names.SEARCH, asked))


def _fall_back(popular: Popular | None, error: RequestFailed, unwanted: Sequence[str], k: int) -> Feed:
    if popular is None or not popular.items or error.code not in AWAY:
        raise error
    return popular.without(unwanted, k)


def _recommend(user_id: str, history: Sequence[str] = (), k: int = 20, **controls: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {names.USER_ID: [user_id], names.K: [k]}
    if history:
        asked[names.HISTORY_ITEM_IDS] = [list(history)]
    return asked | {name: [value] for name, value in controls.items()}


def _feed(answer: Mapping[str, np.ndarray]) -> Feed:
    ids, scores = answer[names.ITEM_IDS][0], answer[names.SCORES][0]
    reasons, propensities = answer.get(names.REASONS), answer.get(names.PROPENSITIES)
    return Feed(
        [
            Item(
                item.decode(),
                float(scores[i]),
                "" if reasons is None else reasons[0][i].decode(),
                1.0 if propensities is None else float(propensities[0][i]),
            )
            for i, item in enumerate(ids)
            if item
        ]
    )
