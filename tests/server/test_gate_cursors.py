"""Cursors on their way through the gate: sealed text is random, so it may look like anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from arborgate.tools.tool import Context
from tests.redaction.planted import draw_secret
from tests.server.test_gate import Asked, Told, make_tool, open_world

pytestmark = pytest.mark.anyio


class Paged(Told):
    cursor: str


async def test_a_cursor_that_looks_like_a_secret_leaves_as_it_was_sealed(tmp_path: Path) -> None:
    secret = draw_secret("github_token", 7)

    async def run(_ctx: Context, asked: Asked) -> Paged:
        return Paged(app=asked.app, note=secret, cursor=secret)

    async with open_world(tmp_path, replace(make_tool(run=run), result=Paged)) as world:
        answer = await world.call()

    assert answer.structured is not None
    assert answer.structured["cursor"] == secret
    assert secret not in answer.structured["note"]
