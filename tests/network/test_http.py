"""vLLM's HTTP servers and the router before them, and who may ask them."""

import asyncio
import urllib.error
import urllib.request

import pytest
from verl_longrl import secrets
from verl_longrl.network import http

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(secrets.HTTP_KEY, "the-run's-key")
    http.register()


def status(port: int, path: str, authorization: str | None, method: str = "GET") -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def statuses(requests: list[tuple[str, str | None]]) -> list[int]:
    """The status with which a server that verl starts answers each request, a path and a header."""
    from fastapi import FastAPI
    from verl.workers.rollout import utils

    app = FastAPI()
    app.get("/v1/models")(lambda: "models")
    app.get("/tokenize")(lambda: "tokens")
    app.middleware_stack = app.build_middleware_stack()  # as vLLM's is when verl is given it

    async def serve() -> list[int]:
        port, task = await utils.run_uvicorn(app, None, "127.0.0.1")
        try:
            return [await asyncio.to_thread(status, port, *request) for request in requests]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return asyncio.run(serve())


def test_a_server_requires_the_key_on_every_path():
    right, wrong = "Bearer the-run's-key", ["Bearer another", "the-run's-key", "Basic dGhlOnJ1bg==", "", None]
    assert statuses([("/v1/models", right), ("/tokenize", right)]) == [200, 200]
    assert statuses(
        [(path, header) for path in ("/v1/models", "/tokenize", "/docs", "/absent") for header in wrong]
    ) == ([401] * 20)


def test_the_router_requires_it_too_and_forwards_it():
    from verl.experimental.reward_loop.router import naive_router

    router = naive_router.NaiveRouter(["http://127.0.0.1:9"])
    assert isinstance(router.app, http.RequireKey)


def test_a_process_without_a_key_does_as_upstream(monkeypatch):
    monkeypatch.delenv(secrets.HTTP_KEY)
    assert statuses([("/v1/models", None)]) == [200]
