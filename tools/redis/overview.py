"""How a Redis source is: what its servers say of themselves, and in our words what of it is a sign of trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

Info = Mapping[str, Any]

_NEARLY_FULL = 0.9
_LONG_FORK_US = 500_000
_FRAGMENTED = 1.5
_WORTH_DEFRAGMENTING = 100 * 1024 * 1024


class SourceRow(BaseModel):
    """One source; of a Cluster the sums over its primaries. `hit_rate` is of all lookups since the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    mode: str
    version: str
    servers: int
    replicas: int
    uptime_seconds: int
    keys: int
    memory_bytes: int
    memory_limit_bytes: int | None = None
    clients: int
    blocked_clients: int
    ops_per_second: int
    hit_rate: float | None = None
    signs: list[str]


def summarise_source(source: str, infos: Sequence[Info]) -> SourceRow:
    """One row of what each primary server said (INFO)."""

    def total(field: str) -> int:
        return sum(_number(info, field) for info in infos)

    limits = [_number(info, "maxmemory") for info in infos]
    hits, lookups = total("keyspace_hits"), total("keyspace_hits") + total("keyspace_misses")
    return SourceRow(
        source=source,
        mode=_token(infos[0].get("redis_mode")),
        version=_token(infos[0].get("redis_version")),
        servers=len(infos),
        replicas=total("connected_slaves"),
        uptime_seconds=min(_number(info, "uptime_in_seconds") for info in infos),
        keys=sum(_count_keys(info) for info in infos),
        memory_bytes=total("used_memory"),
        memory_limit_bytes=sum(limits) if all(limits) else None,
        clients=total("connected_clients"),
        blocked_clients=total("blocked_clients"),
        ops_per_second=total("instantaneous_ops_per_sec"),
        hit_rate=round(hits / lookups, 3) if lookups else None,
        signs=list(dict.fromkeys(sign for info in infos for find in _SIGNS for sign in find(info))),
    )


def _silence(info: Info) -> Iterator[str]:
    if not info:
        yield "It does not say how it is: it lacks INFO."


def _memory(info: Info) -> Iterator[str]:
    limit, used = _number(info, "maxmemory"), _number(info, "used_memory")
    if limit and used / limit >= _NEARLY_FULL:
        full = "then writes fail" if info.get("maxmemory_policy") == "noeviction" else "then keys are evicted"
        yield f"Memory is at {used / limit:.0%} of its limit; {full}."
    if evicted := _number(info, "evicted_keys"):
        yield f"{evicted} keys were evicted for lack of memory since the start."
    ratio = info.get("mem_fragmentation_ratio")
    if isinstance(ratio, int | float) and ratio >= _FRAGMENTED and used >= _WORTH_DEFRAGMENTING:
        yield f"Memory is fragmented: the process has {ratio:.1f} times what it uses."


def _clients(info: Info) -> Iterator[str]:
    if rejected := _number(info, "rejected_connections"):
        yield f"{rejected} connections were rejected since the start: more clients than it allows."
    if blocked := _number(info, "blocked_clients"):
        yield f"{blocked} clients wait in a blocking command; usual for workers of a queue."


def _replication(info: Info) -> Iterator[str]:
    if info.get("role") == "slave":
        yield "This is a replica: writes to it fail."
        if info.get("master_link_status") == "down":
            yield "The replica has lost its primary: what it holds may be old."


def _persistence(info: Info) -> Iterator[str]:
    if _number(info, "loading"):
        yield "It is loading its data and answers nothing else yet."
    if info.get("rdb_last_bgsave_status") == "err":
        yield "The last snapshot failed; by default writes fail until one succeeds."
    if info.get("aof_last_write_status") == "err":
        yield "The append-only file could not be written: writes fail."
    if _number(info, "latest_fork_usec") >= _LONG_FORK_US:
        yield f"The last fork stopped it for {_number(info, 'latest_fork_usec') / 1e6:.1f} s."


_SIGNS: tuple[Callable[[Info], Iterator[str]], ...] = (_silence, _memory, _clients, _replication, _persistence)


def _count_keys(info: Info) -> int:
    databases = (value for name, value in info.items() if name.startswith("db") and isinstance(value, Mapping))
    return sum(_number(database, "keys") for database in databases)


def _number(info: Info, field: str) -> int:
    value = info.get(field, 0)
    return int(value) if isinstance(value, int | float) else 0


def _token(value: Any) -> str:
    """A version or a mode: such text is ours to show only as far as it looks like one."""
    text = str(value or "unknown")
    return text if len(text) <= 32 and all(char.isalnum() or char in ".-_" for char in text) else "unknown"
