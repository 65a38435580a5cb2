"""The terminal: its endpoints, and `arborgate proposals` as a person runs it."""

import asyncio
import json
import os
import re
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Page
from starlette.applications import Starlette
from starlette.types import Scope

from arborgate.policies.model import Caller, Channel
from arborgate.server.connect.entries import Entry, Slot
from arborgate.server.connect.store import Store
from arborgate.server.scope import NONCE
from arborgate.tools.proposal import Order, ProposalState, Step, StepState
from arborgate.tools.record import Event
from tests.parts.oidc import OidcProvider, describe_agent
from tests.parts.process import find_free_ports
from tests.server.web import walk
from tests.server.web.serving import serve
from tests.server.web.test_live import begin
from tests.server.web.world import World, make_caller, make_change, open_world

pytestmark = pytest.mark.anyio

TERMINAL = "arborgate-terminal"
PATIENCE = 30.0


@pytest.fixture
async def office(tmp_path: Path, redis_url: str, oidc_provider: OidcProvider) -> AsyncIterator[World]:
    """Arborgate served for real, with the terminal's public client at the real provider."""
    (port,) = find_free_ports(1)
    oidc_provider.add_client(describe_agent(TERMINAL))
    async with (
        open_world(
            tmp_path / "record", redis_url, url=f"http://127.0.0.1:{port}", issuer=oidc_provider.issuer
        ) as world,
        serve(world),
    ):
        yield world


def get_token(world: World, provider: OidcProvider, person: str = "april", client_id: str = TERMINAL) -> str:
    token: str = provider.log_in(person, client_id=client_id, resource=f"{world.url}/approvals")["access_token"]
    return token


async def ask(world: World, path: str, token: str, body: dict[str, str] | None = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    method = "GET" if body is None else "POST"
    return await world.visit().client.request(method, path, headers=headers, json=body)


async def test_the_terminal_is_told_where_to_log_in(office: World, oidc_provider: OidcProvider) -> None:
    assert (await ask(office, "/.well-known/arborgate-terminal", "")).json() == {
        "issuer": oidc_provider.issuer,
        "client_id": TERMINAL,
        "audience": f"{office.url}/approvals",
        "scope": "openid profile",
    }


async def test_a_person_approves_with_their_token(office: World, oidc_provider: OidcProvider) -> None:
    proposal = await office.propose()
    token = get_token(office, oidc_provider)
    shown = (await ask(office, f"/approvals/{proposal.id}", token)).json()
    assert (shown["proposal"]["digest"], shown["approve"]["allowed"]) == (proposal.digest, True)
    answer = await ask(
        office, f"/approvals/{proposal.id}/approve", token, {"digest": proposal.digest, "comment": "Yes"}
    )
    assert (answer.status_code, answer.json()["state"]) == (200, "approved")
    (intended,) = office.records(Event.CALL_INTENDED)
    assert (intended.channel, intended.agent) == ("terminal", TERMINAL)
    office.check_signature((await office.book.get(proposal.id)).approvals[0])


async def test_tokens_for_agents_do_not_open_the_terminals_endpoints(
    office: World, oidc_provider: OidcProvider
) -> None:
    proposal = await office.propose()
    for_mcp = oidc_provider.log_in("april", resource=f"{office.url}/mcp")["access_token"]
    of_an_agent = get_token(office, oidc_provider, client_id="copilot")
    for token, status in (("", 401), ("nonsense", 401), (for_mcp, 401), (of_an_agent, 403)):
        for path, body in (
            ("/approvals", None),
            (f"/approvals/{proposal.id}", None),
            (f"/approvals/{proposal.id}/approve", {"digest": proposal.digest}),
            (f"/approvals/{proposal.id}/reject", {"digest": proposal.digest}),
        ):
            answer = await ask(office, path, token, body)
            assert answer.status_code == status, (token, path)
            assert (status == 401) == answer.headers.get("www-authenticate", "").startswith("Bearer"), path
    assert (await office.book.get(proposal.id)).state is ProposalState.PROPOSED
    assert {record.outcome for record in office.records(Event.CALLER_REJECTED)} >= {"audience", "client", "format"}


async def test_a_token_that_was_passed_on_to_an_agent_is_refused(world: World) -> None:
    person = make_caller("april", "approver", agent=TERMINAL, channel=Channel.TERMINAL, at=int(world.clock()))
    for caller, status in ((person, 200), (replace(person, actors=("ide-copilot",)), 403)):

        async def authenticate(_scope: Scope, caller: Caller = caller) -> Caller:
            return caller

        app = Starlette(routes=replace(world.pages, terminal=authenticate).routes())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=world.url) as client:
            answer = await client.get("/approvals", headers={"Authorization": "Bearer opaque"})
        assert answer.status_code == status


async def test_the_terminal_is_told_which_nonce_is_next(world: World) -> None:
    async def authenticate(scope: Scope) -> Caller:
        scope[NONCE] = "the-next"
        return make_caller("april", "approver", agent=TERMINAL, channel=Channel.TERMINAL, at=int(world.clock()))

    app = Starlette(routes=replace(world.pages, terminal=authenticate).routes())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=world.url) as client:
        assert (await client.get("/approvals")).headers["dpop-nonce"] == "the-next"


async def test_a_session_cookie_does_not_open_the_terminals_endpoints(office: World) -> None:
    visitor = await office.enter("april", "approver")
    assert (await visitor.get("/approvals")).status_code == 401


async def test_the_terminal_is_told_what_was_wrong(office: World, oidc_provider: OidcProvider) -> None:
    proposal = await office.propose()
    token = get_token(office, oidc_provider)
    path = f"/approvals/{proposal.id}/approve"
    other = await ask(office, path, token, {"digest": "0" * 64})
    assert (other.status_code, other.json()["error"]["field"]) == (409, "digest")
    short = await ask(office, path, token, {"digest": proposal.digest[:12]})
    assert (short.status_code, short.json()["error"]["field"]) == (400, "digest")
    unknown = await ask(office, path, token, {"digest": proposal.digest, "force": "yes"})
    assert (unknown.status_code, "force: unknown field" in unknown.json()["error"]["message"]) == (400, True)
    state = await ask(office, "/approvals?state=nonsense", token)
    assert (state.status_code, state.json()["error"]["field"]) == (400, "state")
    assert (await ask(office, "/approvals/p-none", token)).status_code == 404
    nobody = get_token(office, oidc_provider, "nora")
    assert (await ask(office, f"/approvals/{proposal.id}", nobody)).status_code == 404


async def test_secrets_and_hidden_characters_do_not_reach_the_terminal(
    office: World, oidc_provider: OidcProvider
) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2
    proposal = await office.propose(make_change(diff=f"@@\n+{token}\n+\x1b[2J"), reason="clear \x1b[2J")
    answer = await ask(office, f"/approvals/{proposal.id}", get_token(office, oidc_provider))
    assert token not in answer.text
    assert answer.json()["proposal"]["content"]["reason"] == "clear ⟨U+001B⟩[2J"
    path = f"/approvals/{proposal.id}/approve"
    wrong = await ask(office, path, get_token(office, oidc_provider), {"digest": proposal.digest, token: "yes"})
    assert wrong.json()["error"]["message"] == "[redacted:github_token]: unknown field"


@dataclass
class Terminal:
    """Runs `arborgate proposals` as one person, in a home of their own."""

    world: World
    home: Path
    person: str = "april"

    @property
    def environ(self) -> dict[str, str]:
        browser = f"{sys.executable} {walk.__file__} %s"
        own = {"XDG_STATE_HOME": str(self.home), "BROWSER": browser, "PERSON": self.person, "NO_COLOR": "1"}
        return {**os.environ, **own}

    @property
    def slot(self) -> Slot:
        return Slot(f"{self.world.url}/approvals")

    def kept(self) -> Entry | None:
        """The login that is kept in the person's home."""
        return Store(self.home / "arborgate", print, lambda: None).read(self.slot)

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        program = (sys.executable, "-m", "arborgate.server.cli", "proposals")
        return await asyncio.create_subprocess_exec(
            *program, *words, "--url", self.world.url, env=self.environ, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def run(self, *words: str, typed: str = "") -> tuple[int | None, str, str]:
        """Exit code, standard output and standard error."""
        process = await self.start(*words)
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(typed.encode())
        assert process.returncode != 1, err.decode()  # what went wrong is told with code 2; 1 is a stack trace
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def terminal(office: World, tmp_path: Path) -> Terminal:
    return Terminal(office, tmp_path / "home")


async def test_what_is_approved_in_the_terminal_is_what_was_read(office: World, terminal: Terminal) -> None:
    proposal = await office.propose()
    code, listed, login = await terminal.run("list")
    assert (code, proposal.id in listed, "you may approve" in listed) == (0, True, True)
    assert "for you alone" in login
    assert "eyJ" not in login + listed
    code, shown, login = await terminal.run("show", proposal.id)
    assert (code, login) == (0, "")
    for fact in ("−   targetRevision: v2.14.0", "+   targetRevision: v2.13.4", f"Digest: {proposal.digest}"):
        assert fact in shown
    wrong = await terminal.run("approve", proposal.id, typed="000000000000\n")
    assert wrong[0] == 2
    assert (await office.book.get(proposal.id)).state is ProposalState.PROPOSED
    code, said, _ = await terminal.run("approve", proposal.id, "-m", "Read it.", typed=f"{proposal.digest[:12]}\n")
    assert (code, said.endswith(f"{proposal.id} is approved.\n")) == (0, True)
    assert (await office.book.get(proposal.id)).approvals[0].comment == "Read it."


async def test_a_script_names_the_digest_it_approves(office: World, terminal: Terminal) -> None:
    proposal = await office.propose()
    assert (await terminal.run("approve", proposal.id, "--digest", proposal.digest[:11]))[0] == 2
    assert (await terminal.run("approve", proposal.id, "--digest", proposal.digest))[0] == 0
    assert (await terminal.run("reject", proposal.id, "-m", "Stop."))[0] == 0
    assert (await office.book.get(proposal.id)).state is ProposalState.REJECTED


async def test_the_glass_is_broken_and_reviewed_in_the_terminal(
    office: World, terminal: Terminal, tmp_path: Path
) -> None:
    proposal = await office.propose()
    why = "Checkout is down for everybody, and nobody else answers."
    assert (await terminal.run("break-glass", proposal.id, "-m", why, "--app", "orders-api"))[0] == 2  # an approver
    rita, otto = (Terminal(office, tmp_path / name, name) for name in ("rita", "otto"))
    assert (await rita.run("break-glass", proposal.id, "-m", why, typed="orders\n"))[0] == 2
    assert (await rita.run("break-glass", proposal.id, typed="too short\norders-api\n"))[0] == 2
    assert (await office.book.get(proposal.id)).state is ProposalState.PROPOSED
    code, said, _ = await rita.run("break-glass", proposal.id, "-m", why, typed="orders-api\n")
    assert (code, said.endswith(f"{proposal.id} is approved.\n")) == (0, True)
    assert "0 of 6 changes in the last 24 hours" in said
    kept = await office.book.get(proposal.id)
    assert kept.glass is not None
    assert (kept.glass.comment, kept.breaker) == (why, kept.glass.approver.key)
    await office.book.close(proposal.id, ProposalState.STALE, "it moved")
    assert "GLASS BROKEN, not reviewed" in (await otto.run("list", "--unreviewed"))[1]
    review = ("review", proposal.id, "--finding", "not_justified", "-m", "It could wait.")
    assert (await rita.run(*review))[0] == 2
    assert (await otto.run(*review))[:2] == (0, f"{proposal.id}: reviewed, not justified.\n")
    assert "not justified, by" in (await otto.run("show", proposal.id))[1]
    assert (await otto.run("list", "--unreviewed"))[1] == "There is none that you may see.\n"


async def test_who_may_not_approve_is_told_why(office: World, terminal: Terminal) -> None:
    proposal = await office.propose()
    terminal.person = "dev"
    code, _, err = await terminal.run("approve", proposal.id, "--digest", proposal.digest)
    assert (code, "No policy allows you to." in err) == (2, True)


async def test_an_old_login_is_renewed_before_production_is_approved(office: World, terminal: Terminal) -> None:
    proposal = await office.propose()
    await terminal.run("list")
    kept = terminal.kept()
    office.clock.forward(1_200)
    code, said, _ = await terminal.run("approve", proposal.id, "--digest", proposal.digest)
    # The provider's clock did not move, so the new login is no younger: what counts is that it was asked for.
    assert (code, "Your login is too old for this." in said) == (2, True)
    renewed = terminal.kept()
    assert kept is not None
    assert renewed is not None
    assert (renewed.tokens == kept.tokens, renewed.key == kept.key) == (False, True)


async def test_the_login_is_for_its_owner_alone_and_can_be_ended(office: World, terminal: Terminal) -> None:
    await terminal.run("list")
    (file,) = terminal.home.glob("arborgate/login-*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    file.chmod(0o644)
    code, _, said = await terminal.run("list")
    assert (code, "could be read by others" in said, "Log in in your browser" in said) == (0, True, True)
    assert (await terminal.run("logout"))[:2] == (0, "Logged out.\n")
    assert not file.exists()


async def test_a_login_for_approvals_is_bound_to_a_key_and_ends_with_its_token(
    office: World, terminal: Terminal
) -> None:
    await terminal.run("list")
    kept = terminal.kept()
    assert kept is not None
    assert kept.tokens is not None
    assert (kept.tokens.bound, kept.tokens.refresh_token) == (True, "")
    stolen = await office.visit().client.get(
        "/approvals", headers={"Authorization": f"Bearer {kept.tokens.access_token}"}
    )
    assert stolen.status_code == 401


async def test_a_login_by_code_on_another_device(office: World, terminal: Terminal, page: Page) -> None:
    process = await terminal.start("list", "--device")
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        line = (await process.stderr.readline()).decode()
        found = re.search(r"Go to (\S+) and type the code (\S+)", line)
        assert found, line
        await page.goto(found[1])
        await page.locator("input[name=user_code]").fill(found[2])
        await page.locator("button[type=submit]").first.click()
        await page.locator("button[autofocus], button[type=submit]").first.click()
        await page.get_by_label("User name").fill("april")
        await page.keyboard.press("Enter")
        out, _ = await process.communicate()
    assert (process.returncode, out.decode()) == (0, "There is none that you may see.\n")


async def test_a_proposal_is_followed_in_the_terminal_to_its_end(office: World, terminal: Terminal) -> None:
    proposal, lease = await begin(office)
    await terminal.run("list")  # logs in
    watching = [await terminal.start("watch", proposal.id, *more) for more in ((), ("--json",))]
    async with asyncio.timeout(PATIENCE):
        while office.book.follower.watched < 2:
            await asyncio.sleep(0.01)
        for state in (StepState.STARTED, StepState.HEALTHY):
            await office.book.step(proposal.id, 0, Step(state=state), lease)
        await office.book.finish(proposal.id, ProposalState.APPLIED, "", lease)
        (plain, _), (lines, _) = [await one.communicate() for one in watching]
    assert [one.returncode for one in watching] == [0, 0]
    assert "Applying: 0 of 1 change in place and healthy." in plain.decode()
    # The last change may be told with the end or before it, so the end is the last line, or its change is indented below.
    *_, ending = (line for line in plain.decode().splitlines() if not line.startswith(" "))
    assert "Applied. Its change is in place and healthy." in ending
    told = [json.loads(line) for line in lines.decode().splitlines()]
    assert (told[0]["state"], told[-1]["state"], told[-1]["steps"][0]["state"]) == ("applying", "applied", "healthy")


@pytest.mark.parametrize(("left", "code"), [(StepState.STUCK, 4), (StepState.UNDONE, 3)])
async def test_the_exit_code_says_how_it_ended(office: World, terminal: Terminal, left: StepState, code: int) -> None:
    proposal, lease = await begin(office)
    await office.book.finish(proposal.id, ProposalState.FAILED, "It did not get there.", lease)
    await office.book.step(proposal.id, 0, Step(state=left, message="somebody has changed it since"), lease)
    if left is StepState.UNDONE:
        await office.book.finish(proposal.id, ProposalState.ROLLED_BACK, "It did not get there.", lease)
    ended, said, _ = await terminal.run("watch", proposal.id)
    assert (ended, "somebody has changed it since" in said) == (code, True)
    hidden = await Terminal(office, terminal.home / "nora", "nora").run("watch", proposal.id)
    assert hidden[0] == 2


async def test_what_is_applied_is_steered_in_the_terminal(office: World, terminal: Terminal) -> None:
    proposal, _ = await begin(office)
    assert (await terminal.run("pause", proposal.id, "-m", "I look at it."))[:2] == (0, f"{proposal.id}: paused.\n")
    assert (await terminal.run("pause", proposal.id))[0] == 2
    assert (await terminal.run("resume", proposal.id))[:2] == (0, f"{proposal.id}: resumed.\n")
    code, said, _ = await terminal.run("abort", proposal.id, typed="The error rate doubles.\n")
    assert (code, said.endswith(f"{proposal.id}: aborted.\n")) == (0, True)
    assert (await terminal.run("resume", proposal.id))[0] == 2
    hold = await office.steering.standing(await office.book.get(proposal.id))
    assert hold is not None
    assert (hold.order, hold.comment, hold.by.name) == (Order.ABORT, "The error rate doubles.", "April Approver")
    otto = Terminal(office, terminal.home / "otto", "otto")
    assert (await otto.run("pause", proposal.id))[0] == 2
