"""Evidence: only calls on record that were made for the same person, and not a word about any other."""

from pathlib import Path

import pytest

from arborgate.policies.errors import Invalid
from arborgate.tools.evidence import Evidence
from arborgate.tools.proposal import Content, Draft
from arborgate.tools.records.evidence import Cited, find_evidence
from tests.tools.world import AUDITOR, NOW, World, make_app, make_caller

pytestmark = pytest.mark.anyio

ADA = make_caller("ada", "developer")


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """One call of Ada's on line 1, one of Olga's on line 2, one of Ada's about what she may not see on line 3."""
    world = World(tmp_path, make_app("api"), make_app("secret", hidden=True))
    await world.call("app_get", ADA, app="api")
    await world.call("app_get", AUDITOR, app="api")
    await world.call("app_get", ADA, app="secret")
    return world


async def cite(world: World, *lines: str, note: str = "", now: float = NOW) -> tuple[Evidence, ...]:
    ctx = await world.enter(ADA)
    object.__setattr__(ctx, "now", now)
    return await find_evidence(ctx, [Cited(line=line, note=note) for line in lines])


async def test_what_is_cited_is_what_the_record_says(world: World) -> None:
    (one,) = await cite(world, "serve-1/1", note="it is degraded")
    record = world.records.written[0]
    assert one == Evidence(
        line="serve-1/1",
        at=record.time,
        tool="app_get",
        resource="App::main/argocd/api",
        outcome="ok",
        arguments_digest=record.arguments_digest,
        note="it is degraded",
    )


async def test_another_persons_call_looks_like_one_that_is_not_there(world: World) -> None:
    said = []
    for line in ("serve-1/2", "serve-1/99", "serve-2/1"):
        with pytest.raises(Invalid) as refused:
            await cite(world, "serve-1/1", line)
        said.append((refused.value.message, refused.value.field, refused.value.hint))
    assert set(said) == {
        (
            "is not a call that was made for you in the last 24 hours",
            "evidence.1.line",
            "record_search with person=me lists them.",
        )
    }


async def test_a_person_of_the_same_name_is_another(world: World) -> None:
    twin = make_caller("ada2", "developer")
    object.__setattr__(twin, "name", ADA.key)
    await world.call("app_get", twin, app="api")
    with pytest.raises(Invalid):
        await cite(world, f"serve-1/{len(world.records.written)}")


async def test_a_call_that_found_nothing_does_not_tell_what_was_hidden(world: World) -> None:
    (one,) = await cite(world, "serve-1/3")
    assert (one.outcome, one.resource) == ("not_there", "")


@pytest.mark.parametrize(
    "line", ["", "42", "serve-1/0", "serve-1/-1", "../1", "serve-1:1", "serve-1/1\n", "x" * 120 + "/1"]
)
async def test_what_is_no_line_of_the_record_is_named(world: World, line: str) -> None:
    with pytest.raises(Invalid) as refused:
        await cite(world, line)
    assert (refused.value.message, refused.value.field) == ("is not a line of the record", "evidence.0.line")


async def test_a_call_is_evidence_once(world: World) -> None:
    assert [one.line for one in await cite(world, "serve-1/1", "serve-1/1")] == ["serve-1/1"]
    assert await cite(world) == ()


def test_without_evidence_a_proposal_keeps_the_form_it_had() -> None:
    assert Content.later == {"evidence"}
    assert Draft.model_fields["evidence"].default == ()
