"""Leases: at most one applier at work on a target, each lease with a fence that only grows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..policies.errors import Busy, Conflict
from ..tools.change import Target
from .state import State, reaching_state

_SCRIPTS = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to change a proposal's targets. Whatever is written under an older `fence` is refused."""

    proposal: str
    fence: str
    keys: tuple[str, ...]


class LostLease(Conflict):
    """Another applier has taken over: stop at once, change nothing more."""


class Leases:
    """The leases in the state Redis, held by one `owner` (an applier process). `seconds` is how long each lasts."""

    def __init__(self, state: State, owner: str, seconds: float) -> None:
        self._state = state
        self._owner = owner
        self.seconds = seconds
        self._acquire = state.redis.register_script(read_script("acquire"))
        self._renew = state.redis.register_script(read_script("renew"))
        self._release = state.redis.register_script(read_script("release"))

    async def acquire(self, proposal_id: str, targets: Iterable[Target]) -> Lease:
        """Leases on all the targets, or `Busy`: another applier works on them, or another proposal is not done."""
        keys = self._keys(targets)
        asked: list[str | int] = [proposal_id, self._owner, self._milliseconds]
        fence = await self._state.run(self._acquire, [self._state.key("fence"), *keys], asked)
        if not fence:
            raise Busy("Another change of the same target is under way.", hint="It is tried again when that is done.")
        return Lease(proposal_id, str(fence), keys)

    async def renew(self, lease: Lease) -> None:
        """The leases last their full time again; raises `LostLease`."""
        with reaching_state():
            if not await self._renew(keys=list(lease.keys), args=[lease.fence, self._milliseconds]):
                raise LostLease("Another applier has taken this proposal over.")

    async def let_go(self, lease: Lease) -> None:
        """Another applier may take over at once; the targets stay claimed by the proposal until it is done."""
        with reaching_state():
            await self._renew(keys=list(lease.keys), args=[lease.fence, 0])

    async def release(self, proposal_id: str, targets: Iterable[Target]) -> None:
        """The proposal is done with its targets."""
        with reaching_state():
            await self._release(keys=list(self._keys(targets)), args=[proposal_id])

    @property
    def _milliseconds(self) -> int:
        return int(self.seconds * 1000)

    def _keys(self, targets: Iterable[Target]) -> tuple[str, ...]:
        return tuple(sorted({self._state.key("lease", _name(target)) for target in targets}))


def read_script(name: str) -> str:
    """The text of one of the Lua scripts."""
    return (_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8")


def _name(target: Target) -> str:
    """One short name per object, whichever app it is said to belong to and by whichever version of its API."""
    group = target.api.rpartition("/")[0]
    parts: Sequence[str] = (target.cluster, group, target.kind, target.namespace, target.name)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
