"""Personal data on the pages and in the terminal's answers: for who may see it, and for nobody by accident."""

import html
import re
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.types import Scope

from arborgate.policies.errors import Refused
from arborgate.policies.model import Binding, Caller, Channel
from arborgate.server.leases import Leases
from arborgate.server.proposals import ProposalBook
from arborgate.server.settings import ProposalSettings
from arborgate.server.web import render
from arborgate.tools.change import Change, Check, Rehearsal, Rehearsed
from arborgate.tools.proposal import Approval, Draft, Proposal, ProposalState, Step, StepState
from arborgate.tools.record import Entry, Event
from arborgate.tools.risk import Risk
from arborgate.tools.tree import AppId, Health
from tests.server.web.world import World, make_caller, make_change, make_factor
from tests.tools.world import make_app

pytestmark = pytest.mark.anyio

PERSONAL = ("alice@example.com", "203.0.113.9", "/home/alice")
SAID = "login of alice@example.com from 203.0.113.9 with /home/alice"
MASKED = "login of [mail:1] from [ip:1] with /home/[name:1]"
IDA = "ida@example.org"
TERMINAL = "arborgate-terminal"
CURIOUS = f"""
@id("everybody-looks-into-everything") // {SAID}
permit (principal, action in [Action::"policy:read", Action::"record:search", Action::"record:search_all"], resource)
when {{ principal.key != "{SAID}" }};
"""
BLIND = """
@id("approvers-see-nobody")
forbid (principal in Role::"approver", action == Action::"personal:read", resource);
"""
BREAKS = """
@id("breaks")
permit (principal, action == Action::"personal:read", resource)
when { principal in Role::"auditor" && 9223372036854775807 + 1 > 0 };
"""


def make_hostile_change(app: str = "orders-api") -> Change:
    """Personal data in every text of a change, in the values and the names of its patches too."""
    return make_change(
        app,
        summary=SAID,
        diff=f"--- live\n+++ proposed\n@@ -1 +1 @@ {SAID}\n-{SAID}\n+{SAID}\n same {SAID}",
        undo=None,
        undo_note=SAID,
        patch={"metadata": {"annotations": {SAID: [SAID], "requester": {"name": SAID}}}},
        check=Check(app=SAID, health=SAID, sync=SAID),
    )


@dataclass
class Hostile:
    """A world in which all that others wrote holds personal data: a proposal that waits, one that was judged, and one
    behind broken glass, each by a requester whose name is an address."""

    world: World
    waiting: Proposal
    judged: Proposal
    broken: Proposal

    @property
    def paths(self) -> tuple[str, ...]:
        """Every page with something of others on it."""
        proposals = tuple(f"/proposals/{one.id}" for one in (self.waiting, self.judged, self.broken))
        (record,) = [one for one in self.world.records(Event.CALL_ANSWERED) if one.tool == SAID]
        return (
            *proposals,
            "/proposals",
            "/proposals?state=open",
            "/glass",
            "/apps",
            "/policies",
            "/policies/why?action=policy:read&role=viewer&channel=pages",
            "/policies/who?action=policy:read",
            "/policies/what?role=viewer",
            f"/policies/record?ref={record.replica}:{record.seq}",
        )


@pytest.fixture
async def hostile(world: World, tmp_path: Path) -> Hostile:
    world.demand(CURIOUS, tmp_path / "set")
    lost = AppId("203.0.113.9", "alice@example.com", "lost")
    world.tree.put(make_app("x", id=lost, health=Health.DEGRADED, health_message=SAID))
    waiting, judged, broken = [await propose(world) for _ in range(3)]
    april, rita = await world.enter("april", "approver"), await world.enter("rita", "responder")
    assert (await april.decide(judged, comment=SAID)).status_code == 303
    targets = [change.target for change in judged.content.changes]
    lease = await Leases(world.state, "applier-1", 30.0).acquire(judged.id, targets)
    await world.book.begin(judged.id, lease, await world.book.counts(judged))
    await world.book.step(judged.id, 0, Step(state=StepState.FAILED, message=SAID), lease)
    await world.book.finish(judged.id, ProposalState.FAILED, SAID, lease)
    glass = {"comment": f"{SAID}, so it is urgent", "app": "orders-api"}
    assert (await rita.decide(broken, "break-glass", **glass)).status_code == 303
    await world.book.close(broken.id, ProposalState.STALE, SAID)
    for one in (waiting, judged, broken):
        told = Entry(event=Event.CALL_FAILED, caller="x", caller_name=SAID, agent=SAID, detail=SAID, proposal=one.id)
        await world.audit.write(told)
        await world.wait_searchable(one)
    await world.audit.write(
        Entry(
            event=Event.CALL_ANSWERED,
            caller_name=SAID,
            agent=SAID,
            tool=SAID,
            action="policy:read",
            resource=SAID,
            decision="allow",
            policies=("everybody-looks-into-everything",),
            policy_set=world.pages.engine().digest,
        )
    )
    return Hostile(world, waiting, judged, broken)


async def propose(world: World, app: str = "orders-api") -> Proposal:
    requester = replace(make_caller(IDA, "developer", agent="bot@example.org"), name=IDA)
    requester = replace(requester, groups=frozenset({"alice@example.com"}))
    draft = Draft(
        title=SAID,
        reason=SAID,
        changes=(make_hostile_change(app),),
        environments=(SAID,),
        risk=Risk.HIGH,
        factors=(make_factor(SAID),),
    )
    drafted = await world.book.draft(requester, draft)
    said = Rehearsed(ok=True, warnings=(SAID,), refusal=SAID)
    return await world.book.rehearsed(drafted.id, Rehearsal(changes=(said,), at=world.clock()))


def find_personal(text: str) -> list[str]:
    """What of Alice is in the answer."""
    return [one for one in PERSONAL if one in html.unescape(text)]


async def ask(
    world: World, role: str, path: str, body: dict[str, str] | None = None, subject: str = "vera"
) -> httpx2.Response:
    """What the terminal of somebody in the role is answered."""
    caller = make_caller(subject, role, agent=TERMINAL, channel=Channel.TERMINAL, at=int(world.clock()))
    caller = replace(caller, binding=Binding.DPOP)

    async def authenticate(_scope: Scope) -> Caller:
        return caller

    app = Starlette(routes=replace(world.pages, terminal=authenticate).routes())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=world.url) as client:
        return await client.request("GET" if body is None else "POST", path, json=body)


async def test_no_page_shows_personal_data_to_who_may_not_see_it(hostile: Hostile) -> None:
    viewer = await hostile.world.enter("vera", "viewer")
    for path in (*hostile.paths, "/sessions", "/login"):
        answer = await viewer.get(path)
        assert (answer.status_code, find_personal(answer.text)) == (200, []), path
        assert "alice" not in answer.text, path


async def test_every_page_shows_it_to_who_may(hostile: Hostile) -> None:
    for name, role in (("otto", "auditor"), ("abel", "approver")):
        visitor = await hostile.world.enter(name, role)
        for path in hostile.paths:
            text = (await visitor.get(path)).text
            # The policies that are asked about here hold it only where their text is shown.
            expected = [] if path.startswith("/policies/what") else list(PERSONAL)
            assert find_personal(text) == expected, (name, path)
            assert "[mail:" not in text, (name, path)


async def test_no_answer_to_the_terminal_holds_it_for_who_may_not_see_it(hostile: Hostile) -> None:
    ids = [one.id for one in (hostile.waiting, hostile.judged, hostile.broken)]
    for path in ("/approvals?state=all", "/approvals?unreviewed=1", *(f"/approvals/{one}" for one in ids)):
        masked = await ask(hostile.world, "viewer", path)
        assert (masked.status_code, find_personal(masked.text), "alice" in masked.text) == (200, [], False), path
        whole = await ask(hostile.world, "auditor", path)
        assert (find_personal(whole.text), "[mail:" in whole.text) == (list(PERSONAL), False), path


async def test_who_asked_and_who_decided_is_named_to_all_who_may_see_the_proposal(hostile: Hostile) -> None:
    viewer = await hostile.world.enter("vera", "viewer")
    for path in hostile.paths[:5]:
        text = (await viewer.get(path)).text
        assert (IDA in text, "bot@example.org" in text) == (True, True), path
    content = (await ask(hostile.world, "viewer", f"/approvals/{hostile.judged.id}")).json()["proposal"]["content"]
    requester = content["requester"]
    assert (requester["name"], requester["agent"], requester["key"].endswith(IDA)) == (IDA, "bot@example.org", True)
    assert requester["groups"] == ["[mail:1]"]
    assert content["changes"][0]["patch"]["metadata"]["annotations"]["requester"] == {"name": MASKED}


async def test_the_same_number_is_the_same_person_all_over_a_page(world: World) -> None:
    both = make_change(summary="bob@example.com", diff="@@\n-alice@example.com\n+bob@example.com")
    proposal = await world.propose(both, title="For alice@example.com")
    text = (await (await world.enter("vera", "viewer")).get(f"/proposals/{proposal.id}")).text
    said = re.findall(r"<(h1|h3|ins|del)\b[^>]*>(.*?)</\1>", text)
    found = [(tag, re.sub(r"<[^>]+>", "", words)) for tag, words in said if "mail" in words]
    assert found == [("h1", "For [mail:1]"), ("h3", "1[mail:2]"), ("del", "[mail:1]"), ("ins", "[mail:2]")]


async def test_a_diff_is_masked_line_by_line_and_whole_for_who_judges_it(hostile: Hostile, tmp_path: Path) -> None:
    hostile.world.demand(BLIND, tmp_path / "blind")
    path = f"/proposals/{hostile.waiting.id}"
    viewer = await hostile.world.enter("vera", "viewer")
    lines = re.findall(r'<(ins|del) class="code">(.*?)</\1>', (await viewer.get(path)).text)
    assert [re.sub(r"<[^>]+>", "", text) for _, text in lines] == [MASKED, MASKED]
    for name, role in (("abel", "approver"), ("rita", "responder")):
        judge = await hostile.world.enter(name, role)
        assert find_personal((await judge.get(path)).text) == list(PERSONAL), role
        assert find_personal((await ask(hostile.world, role, f"/approvals/{hostile.waiting.id}")).text) == list(
            PERSONAL
        )
        # What there is nothing to judge about is masked for them too.
        assert find_personal((await judge.get(f"/proposals/{hostile.judged.id}")).text) == []


async def test_who_would_have_to_log_in_again_sees_the_whole_only_then(hostile: Hostile) -> None:
    late = await hostile.world.enter("ruth", "responder", age=301)
    text = (await late.get(f"/proposals/{hostile.waiting.id}")).text
    assert ("Log in again to break the glass" in text, find_personal(text)) == (True, [])


async def test_each_row_and_each_app_is_asked_about_by_itself(world: World) -> None:
    for app, env in (("api", "prod"), ("api-staging", "staging")):
        world.tree.put(make_app(app, env=env, health=Health.DEGRADED, health_message=f"{env}@example.com"))
        await world.propose(make_change(app), title=f"For {env}@example.com", environments=())
    dana = await world.enter("dana", "developer")
    for path in ("/proposals", "/apps"):
        text = (await dana.get(path)).text
        assert ("staging@example.com" in text, "prod@example.com" in text) == (True, False), path
    listed = (await ask(world, "developer", "/approvals")).text
    assert ("staging@example.com" in listed, "prod@example.com" in listed) == (True, False)


async def test_an_app_under_the_one_that_changes_is_asked_about_by_itself(world: World) -> None:
    for name, env in (("203.0.113.9", "prod"), ("203.0.113.10", "staging")):
        world.tree.put(make_app(name, env=env, parent="orders-api-staging"))
    proposal = await world.propose(make_change("orders-api-staging"), title=SAID)
    text = (await (await world.enter("dana", "developer")).get(f"/proposals/{proposal.id}")).text
    under = text.partition('id="apps"')[2].partition("</section>")[0]
    assert "alice@example.com" in text
    assert re.findall(r'class="app-name">([^<]+)<', under)[1:] == ["203.0.113.10", "[ip:1]"]


async def test_one_app_that_is_not_for_them_masks_the_whole_proposal(world: World) -> None:
    proposal = await world.propose(make_change("orders-api-staging"), make_change("orders-api"), title=SAID)
    dana = await world.enter("dana", "developer")
    assert find_personal((await dana.get(f"/proposals/{proposal.id}")).text) == []


async def test_readers_see_their_own_address(hostile: Hostile) -> None:
    alice = await hostile.world.enter("alice@example.com", "viewer")
    path = f"/proposals/{hostile.waiting.id}"
    assert find_personal((await alice.get(path)).text) == ["alice@example.com"]
    told = await ask(hostile.world, "viewer", f"/approvals/{hostile.waiting.id}", subject="alice@example.com")
    assert find_personal(told.text) == ["alice@example.com"]


async def test_what_was_typed_comes_back_as_it_was_typed(hostile: Hostile) -> None:
    path = f"/proposals/{hostile.waiting.id}"
    late = await hostile.world.enter("ruth", "responder", age=301)
    form = {**await late.read_form(path), "comment": "ask bob@example.com"}
    assert (await late.post(f"{path}/break-glass", form)).status_code == 403
    text = (await late.get(path)).text
    assert (">ask bob@example.com</textarea>" in text, find_personal(text)) == (True, [])
    viewer = await hostile.world.enter("vera", "viewer")
    for page in ("/apps?text=", "/proposals?app=", "/policies/why?agent=", "/policies/what?groups="):
        assert 'value="bob@example.com"' in (await viewer.get(f"{page}bob@example.com")).text, page


async def test_an_address_split_by_what_is_not_drawn_is_one(world: World) -> None:
    split = "alice@exa\u200bmple.com alice@exa\x1b[31mmple.com"
    proposal = await world.propose(make_change(diff=f"@@\n+{split}"), title=split)
    viewer = await world.enter("vera", "viewer")
    for text in (
        (await viewer.get(f"/proposals/{proposal.id}")).text,
        (await ask(world, "viewer", f"/approvals/{proposal.id}")).text,
    ):
        assert "alice@" not in text
        assert "⟨U+200B⟩" in text


async def test_an_error_while_deciding_masks(hostile: Hostile, tmp_path: Path) -> None:
    hostile.world.demand(CURIOUS + BREAKS, tmp_path / "broken")
    otto = await hostile.world.enter("otto", "auditor")
    reviewable = {f"/proposals/{hostile.broken.id}", "/proposals", "/glass"}  # an auditor may judge that one
    for path in hostile.paths:
        text = (await otto.get(path)).text
        assert (path in reviewable) == ("alice" in text), path
    assert find_personal((await ask(hostile.world, "auditor", f"/approvals/{hostile.waiting.id}")).text) == []


class Refusing(ProposalBook):
    """A book that says of whom it is when it refuses."""

    async def decide(self, approval: Approval, *, alone: bool = False) -> Proposal:
        raise Refused(f"{approval.verdict}: {SAID}", hint=SAID)


async def test_errors_are_masked_for_who_may_not_see_all_there_is(hostile: Hostile, tmp_path: Path) -> None:
    world, digest = hostile.world, hostile.waiting.digest
    world.change(book=Refusing(world.state, world.audit, ProposalSettings(), world.clock))
    path = f"/approvals/{hostile.waiting.id}/approve"
    for policy, seen in ((CURIOUS, list(PERSONAL)), (BLIND, [])):
        world.demand(policy, tmp_path / str(len(seen)))
        abel = await world.enter("abel", "approver")
        answer = await abel.decide(hostile.waiting)
        assert (answer.status_code, find_personal(answer.text)) == (409, seen)
        told = await ask(world, "approver", path, {"digest": digest})
        assert (told.status_code, find_personal(told.text)) == (409, seen)
    unknown = await ask(world, "viewer", path, {"digest": digest, "alice@example.com": "x"})
    assert (unknown.status_code, find_personal(unknown.text)) == (400, [])


async def test_what_a_verdict_returns_is_masked_by_the_same_rule(world: World, tmp_path: Path) -> None:
    for policy, seen in (("", list(PERSONAL)), (BLIND, [])):
        world.demand(policy, tmp_path / str(len(seen)))
        proposal = await propose(world)
        told = await ask(world, "approver", f"/approvals/{proposal.id}/approve", {"digest": proposal.digest})
        assert (told.status_code, find_personal(told.text)) == (200, seen)


async def test_a_template_that_thinks_of_nothing_shows_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "parts.html").write_text("{% macro part(text) %}{{ text|words }}{{ text }}{% endmacro %}")
    (tmp_path / "templates" / "inbox.html").write_text(
        '{% from "parts.html" import part %}{% from "parts.html" import part as knowing with context %}'
        "{% set said = rest[0].proposal.content.title %}"
        "{{ said }}|{{ said|words }}|{{ said ~ 1 }}|{{ [said] }}|{{ part(said) }}"
        "{% call masks.of(rest[0].personal) %}§{{ part(said) }}{{ knowing(said) }}§{% endcall %}{{ said }}"
    )
    monkeypatch.setattr(render, "HERE", tmp_path)
    await world.propose(title=SAID)
    world.change()
    for role, shown in (("viewer", 0), ("auditor", 2)):
        text = (await (await world.enter("somebody", role)).get("/proposals")).text
        outside, inside, behind = text.split("§")
        assert find_personal(outside + behind) == []
        assert inside.count("alice@example.com") == shown
