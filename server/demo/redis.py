"""The Redis of the demo: a real redis-server when there is one on the PATH, else one in pure Python.

Run as a module it is the latter: `python -m arborgate.server.demo.redis PORT`.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redis.exceptions import ResponseError

from ...policies.errors import BadConfiguration
from ...tools.redis.acl import READER_RULES, STATE_RULES
from .listening import LOOPBACK

USERS: Mapping[str, str] = {
    "apps": "~* &* +@all -@admin -@dangerous",
    "arborgate": " ".join(STATE_RULES),
    "reader": " ".join(READER_RULES),
}
"""Each user and its rules: the sample apps, Arborgate's own keyspace, and the source that agents may read."""


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """How to start it and who may log in. `guarded` says whether it knows users and what each may do."""

    command: Sequence[str]
    url: str
    passwords: Mapping[str, str]
    guarded: bool


def prepare_redis(folder: Path, port: int, *, program: str | None = None) -> EmbeddedRedis:
    """A Redis for that port, its files in the folder. `program` is the redis-server; `""` for none; default: by PATH.

    Raises `BadConfiguration` when there is neither a redis-server nor the package that replaces it."""
    found = shutil.which("redis-server") if program is None else program
    passwords = {user: secrets.token_hex(16) for user in USERS}
    url = f"redis://{LOOPBACK}:{port}/0"
    if not found and find_spec("fakeredis") is None:
        raise BadConfiguration(
            "The demo needs a Redis, and found neither redis-server on the PATH nor the package fakeredis.",
            hint="Install one: pip install 'arborgate[demo]', or your system's redis-server.",
        )
    if not found:
        return EmbeddedRedis(
            (sys.executable, "-m", "arborgate.server.demo.redis", str(port)), url, passwords, guarded=False
        )
    config = folder / "redis.conf"
    config.touch(mode=0o600)
    lines = [f"bind {LOOPBACK}", f"port {port}", f'dir "{folder}"', 'save ""', "appendonly no", "user default off"]
    for user, rules in USERS.items():
        lines.append(f"user {user} on #{hashlib.sha256(passwords[user].encode()).hexdigest()} {rules}")
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return EmbeddedRedis((found, str(config)), url, passwords, guarded=True)


def main() -> None:
    """Serves a Redis in pure Python until it is killed. It lets anybody in: it knows users, and holds none to rules."""
    import fakeredis  # noqa: PLC0415  # only where there is no redis-server

    server = fakeredis.TcpFakeServer((LOOPBACK, int(sys.argv[1])))
    handler: Any = server.RequestHandlerClass
    server.RequestHandlerClass = _keep_open(handler)
    server.serve_forever()


def _keep_open(handler: type[Any]) -> type[Any]:
    """The handler, which closes a connection over an error reply, made to go on with it as Redis does."""

    class Handler(handler):  # type: ignore[misc]  # fakeredis has no types
        def setup(self) -> None:
            super().setup()
            read = self.current_client.read_response

            def answer(*args: Any, **options: Any) -> Any:
                try:
                    return read(*args, **options)
                except ResponseError as error:
                    return error

            self.current_client.read_response = answer

    return Handler


if __name__ == "__main__":
    main()
