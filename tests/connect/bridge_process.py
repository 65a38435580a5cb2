"""The bridge as a process of its own, with a login that a test has prepared: `python bridge_process.py FILE`.

The file is JSON: `url`, `tokens` (the first is used until the server refuses it, then the next), `login` ("ready",
"pending", "needed", or "broken"), and `patience` (see `Patience`).
"""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from arborgate.server.connect.bridge import run_bridge
from arborgate.server.connect.credentials import LoginRequired
from arborgate.server.connect.remote import Patience


class Prepared:
    """Credentials that read the file again for every request, so that a test can let a person log in."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._refused = 0

    def read(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self._file.read_text())
        return read

    async def headers(self, method: str, url: str) -> Mapping[str, str]:
        prepared = self.read()
        if prepared["login"] == "needed":
            raise LoginRequired("You are not logged in.", hint="Run `arborgate login` in a terminal.")
        if prepared["login"] == "broken":
            raise RuntimeError("the keyring is on fire")
        while prepared["login"] == "pending":
            await asyncio.sleep(0.02)
            prepared = self.read()
        tokens = prepared["tokens"]
        return {"authorization": f"Bearer {tokens[min(self._refused, len(tokens) - 1)]}"}

    async def learn(self, status: int, headers: Mapping[str, str]) -> bool:
        self._refused += status == 401
        return status == 401 and self._refused < len(self.read()["tokens"])


async def main(file: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    credentials = Prepared(file)
    prepared = credentials.read()
    await run_bridge(prepared["url"], credentials, stop=stop, patience=Patience(**prepared["patience"]))


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
