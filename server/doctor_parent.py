"""What the doctor asks of `arborgate parent`: whom it speaks for, its key and template, and what its Redis user may do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from ..policies.errors import BadConfiguration
from ..tools.app import AppId
from .approvals import load_private_key
from .doctor_findings import Finding, bad, good, poor
from .doctor_keys import examine_key, tell
from .doctor_redis import reach_redis
from .parent_settings import ControllerSettings
from .parent_streams import asked_key, said_key
from .parent_template import read_template
from .settings import Settings
from .state import State

_RULES = "see deploy/redis/users.conf"


async def examine_parent(settings: Settings) -> AsyncIterator[Finding]:
    """All but the clusters, which it reads as `serve` does."""
    own = settings.controller
    if own is None:
        yield bad("controller", "is not set", "deploy/parent.yaml has settings to begin with")
        return
    key = "controller.signing_key_file"
    yield _examine_app(own, settings)
    for finding in examine_key(key, own.signing_key_file, partial(load_private_key, setting=key), "parent"):
        yield finding
    for finding in _examine_template(own):
        yield finding
    async for finding in reach_redis(settings.state, lambda state: _examine_rights(state, own.app)):
        yield finding


def _examine_app(own: ControllerSettings, settings: Settings) -> Finding:
    name, app, known = "controller.app", AppId.parse(own.app), sorted(one.name for one in settings.clusters)
    if app.cluster in known:
        return good(name, f"it speaks for {app}")
    told = f"{own.app} is in none of the clusters ({', '.join(known) or 'there are none'})"
    return bad(name, told, "give it as cluster/namespace/name")


def _examine_template(own: ControllerSettings) -> Iterator[Finding]:
    name = "controller.template_file"
    try:
        rules = len(read_template(own.template_file).rules)
    except BadConfiguration as error:
        yield bad(name, tell(error, name), error.hint or "deploy/parent-template.yaml has one to begin with")
        return
    yield good(name, f"can be read, {rules} {'rule' if rules == 1 else 'rules'}; what none allows goes to people")


async def _examine_rights(state: State, app: str) -> AsyncIterator[Finding]:
    yield await _examine_streams(state, app)
    yield await _examine_rest(state)


async def _examine_streams(state: State, app: str) -> Finding:
    name, asked, said = "redis streams", asked_key(state, app), said_key(state, app)
    try:
        await state.redis.xrange(asked, count=1)
        await state.redis.xrange(said, count=1)
        await _append_nothing(state.redis, said)
    except NoPermissionError:
        return bad(name, f"may not read {asked}, or not append to {said}", _RULES)
    except ResponseError as error:
        return bad(name, f"{asked} or {said} is no stream: {error}", "see who else writes there")
    return good(name, "can read what is put before it, and append what it says")


async def _append_nothing(redis: Redis, stream: str) -> None:
    """Redis asks whether the user may before it finds that no entry can have this id, so none is ever added."""
    try:
        await redis.xadd(stream, {"nothing": ""}, id="0-0", nomkstream=True)
    except NoPermissionError:
        raise
    except ResponseError as error:
        if "0-0" not in str(error):
            raise


async def _examine_rest(state: State) -> Finding:
    name = "redis user"
    try:
        await state.redis.zcard(state.key("proposals"))
    except NoPermissionError:
        return good(name, "may do nothing beyond its streams")
    return poor(name, "may do more than its streams need: what steals parent has that too", _RULES)
