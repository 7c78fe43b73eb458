"""A real HTTP server that speaks OpenAI's protocol and behaves as badly as a test wants it to."""

import asyncio
import threading

from aiohttp import web


class Server:
    """Listens on a free port of this machine, in its own thread, until `close`.

    `behave(body, n)` answers the n-th chat request: a string is the reply's text, an aiohttp response is sent as it is,
    a float is slept before `honest(body)` gives the text. `embed(texts)` gives embeddings, lists of floats. `bodies`
    holds what was asked, `keys` the Authorization headers it came with.
    """

    def __init__(self, honest=lambda body: "yes", behave=lambda body, n: 0.0):
        self.honest, self.behave = honest, behave
        self.bodies, self.keys, self.models = [], [], ["judge"]
        self.embed = lambda texts: [[1.0] for _ in texts]
        self.most_at_once = self._at_once = 0
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def _serve(self, started):
        async def start():
            app = web.Application(client_max_size=2**26)
            app.router.add_post("/v1/chat/completions", self._complete)
            app.router.add_post("/v1/embeddings", self._embeddings)
            app.router.add_get("/v1/models", self._list_models)
            self._runner = web.AppRunner(app, shutdown_timeout=0.1)
            await self._runner.setup()
            site = web.TCPSite(self._runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
            started.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    async def _list_models(self, request):
        return web.json_response({"object": "list", "data": [{"id": m, "object": "model"} for m in self.models]})

    async def _complete(self, request):
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization"))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = self.behave(body, len(self.bodies))
            if isinstance(answer, float):
                await asyncio.sleep(answer)
                answer = self.honest(body)
        finally:
            self._at_once -= 1
        return reply(answer) if isinstance(answer, str) else answer

    async def _embeddings(self, request):
        vectors = self.embed((await request.json())["input"])
        if isinstance(vectors, web.Response):
            return vectors
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        return web.json_response({"object": "list", "model": "judge", "data": data[::-1]})  # any order is allowed

    def close(self):
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


def reply(text, finish_reason="stop"):
    """A chat completion of this text, as many tokens long as it has words."""
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 7, "completion_tokens": len(text.split())}
    usage["total_tokens"] = sum(usage.values())
    return web.json_response(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice], "usage": usage}
    )


def failure(status, message="out of order", headers=None):
    """An error response as such servers send it."""
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)
