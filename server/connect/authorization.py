"""A login for an HTTP client: each request gets its headers, and one that is refused for its login is sent once more."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2

from .credentials import Credentials


class Authorization(httpx2.Auth):
    """For `httpx2.AsyncClient(auth=…)`. A proof is good for one request, so each one is made when it is sent."""

    _SENDS = 3  # as it is, with a nonce of the server's, and with a new token

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        for _ in range(self._SENDS):
            request.headers.update(await self._credentials.headers(request.method, str(request.url)))
            response = yield request
            headers = {name: ", ".join(response.headers.get_list(name)) for name in response.headers}
            if not await self._credentials.learn(response.status_code, headers):
                return
