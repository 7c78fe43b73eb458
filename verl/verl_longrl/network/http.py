"""Require the run's key on its HTTP servers.

verl gives every vLLM replica an HTTP server on the node's address. Rollouts do not use it: they go through Ray. A judge
that verl serves does use it, through verl's router, which forwards the headers of requests. Here both require
`Authorization: Bearer KEY` on every path.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from functools import wraps
from hmac import compare_digest
from types import ModuleType
from typing import Any

from wrapt import when_imported

from verl_longrl import secrets

SERVERS = "verl.workers.rollout.utils"
ROUTER = "verl.experimental.reward_loop.router.naive_router"

Message = MutableMapping[str, Any]


class RequireKey:
    """ASGI middleware that answers 401 to a request without the key."""

    def __init__(self, app: Callable[..., Awaitable[None]], key: str) -> None:
        self.app, self.expected = app, f"Bearer {key}".encode()

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        received = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "lifespan" or compare_digest(received, self.expected):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]})
            await send({"type": "http.response.body", "body": b"this server requires the key of its run\n"})


def guarded(app: Any) -> Any:
    """The application, requiring the key if this process has one."""
    key = os.environ.get(secrets.HTTP_KEY)
    return RequireKey(app, key) if key else app


def register() -> None:
    """Secure the servers that verl starts from now on."""
    when_imported(SERVERS)(_guard_servers)
    when_imported(ROUTER)(_guard_router)


def _guard_servers(module: ModuleType) -> None:
    start = module.run_uvicorn
    if hasattr(start, "requires_key"):
        return

    @wraps(start)
    async def run_uvicorn(app: Any, *args: Any, **kwargs: Any) -> Any:
        return await start(guarded(app), *args, **kwargs)

    run_uvicorn.requires_key = True  # type: ignore[attr-defined]
    module.run_uvicorn = run_uvicorn  # type: ignore[attr-defined]


def _guard_router(module: ModuleType) -> None:
    init = module.NaiveRouter.__init__
    if hasattr(init, "requires_key"):
        return

    @wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.app = guarded(self.app)

    __init__.requires_key = True  # type: ignore[attr-defined]
    module.NaiveRouter.__init__ = __init__
