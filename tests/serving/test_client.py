"""The client: both protocols, sync and async, what is sent again, and what is shown when the server is away."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from schema import names
from schema.errors import InputError
from serving.client import RequestFailed, connect, connect_async
from serving.feed_client import AsyncHomeFeed, Feed, HomeFeed, Item, Popular
from serving.flags import Flags
from serving.server import running_server
from tests.serving.half_plus_two import write_half_plus_two

X = {"x": np.array([1.0], np.float32)}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    base = tmp_path_factory.mktemp("client")
    write_half_plus_two(base / "1")
    with running_server(Flags(-1, rest_api_port=-1, model_name="m", model_base_path=str(base))) as (grpc_port, rest):
        yield [f"grpc://localhost:{grpc_port}", f"http://localhost:{rest}"]


def test_sync_and_async_say_the_same_over_both_protocols(addresses):
    async def ask(address):
        client = connect_async(address, "m")
        answers = await asyncio.gather(*(client.predict("serving_default", X) for _ in range(5)))
        status, signatures = await client.status(), await client.signatures()
        with pytest.raises(RequestFailed) as error:
            await client.predict("none", X)
        await client.close()
        return [answer["y"].tolist() for answer in answers], status, signatures, error.value.code

    for address, code in zip(addresses, ("FAILED_PRECONDITION", "400"), strict=True):
        client = connect(address, "m")
        answers, status, signatures, refused = asyncio.run(ask(address))
        assert answers == [[2.5]] * 5 == [client.predict("serving_default", X)["y"].tolist()] * 5
        assert status == client.status() == {1: "AVAILABLE"}
        assert signatures == client.signatures() and signatures["two"]["inputs"] == ["text", "x"]
        assert refused == code
        with pytest.raises(RequestFailed) as error:
            client.predict("none", X)
        assert error.value.code == code
        client.close()


def test_a_server_that_is_away_is_unavailable():
    for address in ("grpc://localhost:9", "http://localhost:9"):
        with pytest.raises(RequestFailed, match="UNAVAILABLE"):
            connect(address, "m", timeout=2).status()
        with pytest.raises(RequestFailed, match="UNAVAILABLE"):
            asyncio.run(_status(address))
    for connecting in (connect, connect_async):
        with pytest.raises(ValueError, match="grpc://"):
            connecting("localhost:1", "m")


async def _status(address):
    return await connect_async(address, "m", timeout=2).status()


@pytest.fixture
def flaky():
    """A REST server that answers with the statuses in `plan`, one after another, and then well."""
    state = SimpleNamespace(plan=[], asked=0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked += 1
            status = state.plan.pop(0) if state.plan else 200
            body = json.dumps({"model_version_status": []} if status == 200 else {"error": "no"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.address = f"http://localhost:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("plan", "asked", "code"),
    [([503], 2, None), ([502, 503, 503], 4, None), ([503] * 9, 4, "503"), ([500], 1, "500"), ([400], 1, "400")],
)
def test_only_what_was_not_answered_is_sent_again(flaky, plan, asked, code):
    for ask in (lambda: connect(flaky.address, "m").status(), lambda: asyncio.run(_status(flaky.address))):
        flaky.plan, flaky.asked = list(plan), 0
        if code is None:
            assert ask() == {}
        else:
            with pytest.raises(RequestFailed) as error:
                ask()
            assert error.value.code == code
        assert flaky.asked == asked


class Stub:
    """A client that answers what it is told, or is away."""

    def __init__(self):
        self.error, self.asked = None, None
        self.answer = {
            names.ITEM_IDS: np.array([[b"a", b"b", b""]], object),
            names.SCORES: np.array([[0.9, 0.5, 0.0]], np.float32),
            names.REASONS: np.array([[b"popular", b"history:x", b""]], object),
            names.PROPENSITIES: np.array([[1.0, 0.25, 0.0]], np.float32),
        }

    def predict(self, signature, inputs):
        self.asked = signature, inputs
        if self.error:
            raise self.error
        return self.answer


class AsyncStub(Stub):
    async def predict(self, signature, inputs):
        return super().predict(signature, inputs)


def test_typed_questions_and_answers():
    stub = Stub()
    feed = HomeFeed(stub).recommend("u", ["h"], k=2, diversity=0.3, exclude_item_ids=["z"])
    assert stub.asked == (
        names.RECOMMEND,
        {"user_id": ["u"], "k": [2], "history_item_ids": [["h"]], "diversity": [0.3], "exclude_item_ids": [["z"]]},
    )
    second = feed.items[1]
    assert [item.item_id for item in feed.items] == ["a", "b"] and not feed.is_fallback
    assert (second.reason, second.propensity, second.score) == ("history:x", 0.25, 0.5)
    del stub.answer[names.REASONS], stub.answer[names.PROPENSITIES]
    assert HomeFeed(stub).similar_items("a", 2).items[0] == Item("a", pytest.approx(0.9))
    assert HomeFeed(stub).search("tea", "u").items[1].item_id == "b"
    assert stub.asked == (names.SEARCH, {"query": ["tea"], "user_id": ["u"], "k": [20]})


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "503"])
def test_what_was_popular_is_shown_while_the_server_is_away(tmp_path, code):
    kept = tmp_path / "popular.json"
    stub = Stub()
    home = HomeFeed(stub, Popular(str(kept)))
    stub.error = RequestFailed(code, "away")
    with pytest.raises(RequestFailed):  # there is nothing to show yet
        home.recommend("u")
    stub.error = None
    home.remember()
    assert stub.asked[1]["user_id"] == [""] and [p.name for p in tmp_path.iterdir()] == ["popular.json"]
    stub.error = RequestFailed(code, "away")
    later = HomeFeed(stub, Popular(str(kept)))  # another process
    for shown in (home.recommend("u", k=1), later.recommend("u", k=1)):
        assert shown == Feed([Item("a", 0.0, "popular")], is_fallback=True)
    left = later.recommend("u", history=["a"], exclude_item_ids=["c"])
    assert [item.item_id for item in left.items] == ["b"]


def test_a_refusal_is_nothing_to_fall_back_from(tmp_path):
    stub = Stub()
    home = HomeFeed(stub, Popular(str(tmp_path / "popular.json")))
    home.remember()
    stub.error = RequestFailed("INVALID_ARGUMENT", "no")
    with pytest.raises(RequestFailed, match="INVALID_ARGUMENT"):
        home.recommend("u")
    (tmp_path / "popular.json").write_text("[1]")
    with pytest.raises(InputError, match="is no list of popular items"):
        Popular(str(tmp_path / "popular.json"))


def test_the_async_feed_is_the_sync_one_awaited(tmp_path):
    stub = AsyncStub()
    home = AsyncHomeFeed(stub, Popular(str(tmp_path / "popular.json")))

    async def visit():
        await home.remember()
        answered = [await home.recommend("u", ["h"]), await home.similar_items("a"), await home.search("tea")]
        stub.error = RequestFailed("UNAVAILABLE", "away")
        return answered, await home.recommend("u")

    answered, fallback = asyncio.run(visit())
    assert all(feed == HomeFeed(Stub()).recommend("u") for feed in answered)
    assert fallback.is_fallback and [item.reason for item in fallback.items] == ["popular", "popular"]
