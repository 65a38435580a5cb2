"""Requests to the servers that a login needs: https or loopback, no redirects, small answers, in time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson

from ...policies.errors import Unavailable
from ..section import is_https_or_loopback

LOOPBACK_DIRECT = {"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None}
"""Mounts of a client that asks this machine without the proxy, which would be another machine's loopback."""

_ANSWER_LIMIT = 262_144
_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; `json` is its body's object, empty where the body is none."""

    url: str
    status: int
    headers: httpx2.Headers
    json: Mapping[str, Any]

    @property
    def fine(self) -> bool:
        return 200 <= self.status < 300


class Web:
    """Asks servers; raises `Unavailable` for one that does not answer, or answers with what nobody should read."""

    def __init__(self, client: httpx2.AsyncClient | None = None) -> None:
        self._client = client or httpx2.AsyncClient(timeout=_SECONDS, follow_redirects=False, mounts=LOOPBACK_DIRECT)

    async def get(self, url: str) -> Answer:
        return await self._send(self._client.build_request("GET", url, headers={"Accept": "application/json"}))

    async def post_form(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        return await self._send(self._client.build_request("POST", url, data=dict(form), headers=headers))

    async def post_json(self, url: str, body: Mapping[str, Any]) -> Answer:
        return await self._send(self._client.build_request("POST", url, json=dict(body)))

    async def close(self) -> None:
        await self._client.aclose()

    async def _send(self, request: httpx2.Request) -> Answer:
        url = str(request.url)
        if not is_https_or_loopback(url):
            raise Unavailable(f"{url} is neither https nor on loopback, so it is not asked.")
        content = bytearray()
        ends = time.monotonic() + _SECONDS
        try:
            answer = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > _ANSWER_LIMIT or time.monotonic() > ends:
                        raise Unavailable(f"{urlsplit(url).netloc} answers with more than a login needs.")
            finally:
                await answer.aclose()
        except httpx2.HTTPError as error:
            raise Unavailable(f"{urlsplit(url).netloc} does not answer.", detail=type(error).__name__) from error
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError:
            body = None
        return Answer(url, answer.status_code, answer.headers, body if isinstance(body, dict) else {})
