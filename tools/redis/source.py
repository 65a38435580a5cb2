"""The Redis servers whose state agents may read: credentials that can only read, and a closed list of commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ...policies.errors import BadConfiguration, Refused, Unavailable
from .connection import FAULTS, connect

Command = tuple[str | bytes | int, ...]
"""A command's name (of two words where Redis has two) and its arguments."""

READS = frozenset(
    {
        "GETRANGE",
        "HLEN",
        "HSCAN",
        "INFO",
        "LLEN",
        "LRANGE",
        "MEMORY USAGE",
        "PTTL",
        "SCAN",
        "SCARD",
        "SSCAN",
        "STRLEN",
        "TYPE",
        "XINFO GROUPS",
        "XLEN",
        "XREVRANGE",
        "ZCARD",
        "ZRANGE",
    }
)
"""Everything that is ever sent. Redis's categories do not separate reading from writing, so it is command by command;
the credentials' ACL should allow the same, and is the other lock."""

_PASSING = ("WRONGTYPE", "no such key")
"""Errors that say that the key was changed or removed while it was read."""

_LACKING = "unknown command"
"""What a server says that speaks Redis's protocol and lacks a command (MEMORY USAGE, INFO): the rest is still read."""


class SourceSettings(Protocol):
    """What the settings say of one Redis."""

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def password_file(self) -> Path | None: ...
    @property
    def timeout(self) -> float: ...


class RedisState:
    """The configured sources by name. Closing it closes their connections."""

    def __init__(self, clients: Mapping[str, Redis]) -> None:
        self._clients = dict(clients)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._clients)

    async def ask(self, source: str, commands: Sequence[Command]) -> list[Any]:
        """The answers to the commands, in one round trip (per server, in a Cluster); text in them is bytes.

        None stands where the key was changed or removed meanwhile, or the server lacks the command. Raises
        `Unavailable` (naming the source, never its address) when the source does not answer or does not let Arborgate
        read this, and `Refused` for a command that is not a known read."""
        _require_reads(commands)
        async with self._client(source).pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            try:
                answers = await pipe.execute(raise_on_error=False)
            except FAULTS as error:
                raise _unavailable(source, error) from error
        return [_read_answer(source, answer) for answer in answers]

    async def scan(
        self, source: str, pattern: bytes, node: int, cursor: int, count: int
    ) -> tuple[list[bytes], int, int]:
        """Some keys that match the glob-style pattern, and where to go on: server and cursor, server -1 at the end.

        A Cluster's servers are scanned one after the other; `count` is how many keys Redis looks at. Raises as `ask`."""
        nodes = await self._nodes(source)
        if node >= len(nodes):  # the Cluster has become smaller
            return [], -1, 0
        command: Command = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        after, keys = await self._ask_node(source, nodes[node], command)
        if isinstance(after, dict):  # of a Cluster redis-py tells a cursor per server
            after = after[nodes[node].name]
        if int(after):
            return list(keys), node, int(after)
        return list(keys), node + 1 if node + 1 < len(nodes) else -1, 0

    async def info(self, source: str) -> list[Mapping[str, Any]]:
        """What each primary server says of itself (INFO; nothing where it lacks that); one entry unless the source is a
        Cluster. Raises as `ask`."""
        return [dict(await self._ask_node(source, node, ("INFO",)) or {}) for node in await self._nodes(source)]

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    def _client(self, source: str) -> Redis:
        found = self._clients.get(source)
        if found is None:
            known = ", ".join(self._clients)
            raise Unavailable(
                # Its name is not repeated: it may come from an annotation.
                "No Redis source is configured by the name that is asked for.",
                hint=f"Configured: {known}." if known else "The settings name no Redis source.",
            )
        return found

    async def _nodes(self, source: str) -> list[Any]:
        """The primaries of a Cluster, in a lasting order; one None for a single server."""
        client: Any = self._client(source)
        if not isinstance(client, RedisCluster):
            return [None]
        try:
            await client.initialize()
        except FAULTS as error:
            raise _unavailable(source, error) from error
        return sorted(client.get_primaries(), key=lambda node: str(node.name))

    async def _ask_node(self, source: str, node: Any, command: Command) -> Any:
        _require_reads([command])
        client: Any = self._client(source)
        try:
            if node is None:
                return await client.execute_command(*command)
            answer = await client.execute_command(*command, target_nodes=[node])
        except FAULTS as error:
            if _LACKING in str(error):
                return None
            raise _unavailable(source, error) from error
        return answer[node.name] if isinstance(answer, dict) and node.name in answer else answer


def open_redis_state(configured: Iterable[SourceSettings]) -> RedisState:
    """The sources of the settings; nothing is sent yet. Raises `BadConfiguration` for a URL or file that can't be used."""
    clients = {}
    for one in configured:
        try:
            password = one.password_file.read_text(encoding="utf-8").strip() if one.password_file else ""
        except OSError as error:
            raise BadConfiguration(
                f"The password file of the Redis source {one.name!r} can't be read: {error.strerror}.", field="redis"
            ) from error
        clients[one.name] = connect(
            one.url, username=one.username, password=password, timeout=one.timeout, decode=False
        )
    return RedisState(clients)


def _require_reads(commands: Iterable[Command]) -> None:
    """The check at the edge: whatever was meant above, only known reads leave."""
    for command in commands:
        if command[0] not in READS:
            raise Refused("This is not one of the commands that read.", detail=str(command[0]))


def _read_answer(source: str, answer: Any) -> Any:
    if isinstance(answer, NoPermissionError):
        raise _forbidden(source, answer)
    if isinstance(answer, ResponseError) and any(passing in str(answer) for passing in (*_PASSING, _LACKING)):
        return None
    if isinstance(answer, RedisError):
        raise _unavailable(source, answer)
    return answer


def _unavailable(source: str, error: BaseException) -> Unavailable:
    if isinstance(error, NoPermissionError):
        return _forbidden(source, error)
    return Unavailable(
        f"The Redis source {source} does not answer.",
        hint="The app tree is still readable; try again in a moment.",
        detail=f"{type(error).__name__}: {error}",
    )


def _forbidden(source: str, error: NoPermissionError) -> Unavailable:
    return Unavailable(
        f"The Redis source {source} does not let Arborgate read this.",
        hint="Ask the platform team to check the ACL of the user that Arborgate reads with.",
        detail=str(error),
    )
