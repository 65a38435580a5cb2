"""`arborgate proposals`: read, approve and reject proposals in the terminal, logged in as yourself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import httpx2
import orjson
import typer
from pydantic import BaseModel, ValidationError

from ..policies.errors import ArborgateError, Conflict, Denied, Unavailable
from ..tools.change import Change, Rehearsed
from ..tools.proposal import Finding, Proposal, ProposalState, Requester, Verdict
from ..tools.times import write_time
from .cli_watch import follow
from .connect.asking import LoginAsked
from .connect.authorization import Authorization
from .connect.browsers import has_browser, open_browser
from .connect.entries import Asked
from .connect.session import Session
from .connect.web import LOOPBACK_DIRECT
from .steering import Command
from .terminal_login import open_approvals
from .web.proposal_page import SHORT_DIGEST
from .web.terminal import Followed, Listed, RulingBody, Shown
from .web.words import Mark, read_diff, reveal, reveal_line, show_distance

commands = typer.Typer(
    help="Proposals: list, read, decide, watch, and stop what is being applied.", no_args_is_help=True
)

Url = Annotated[str, typer.Option("--url", envvar="ARBORGATE_URL", help="Where Arborgate is, without a path.")]
Device = Annotated[bool, typer.Option("--device", help="Log in by a code on another device.")]
Id = Annotated[str, typer.Argument(help="The proposal's id.", metavar="ID")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept with the decision.")]
M = TypeVar("M", bound=BaseModel)
_LOCAL = "http://127.0.0.1:8484"
_STEERED = {Command.ABORT: "aborted", Command.PAUSE: "paused", Command.RELEASE: "released", Command.RESUME: "resumed"}


@commands.command("list")
def list_proposals(
    url: Url = _LOCAL,
    state: Annotated[str, typer.Option(help="A state, or all.")] = ProposalState.PROPOSED,
    unreviewed: Annotated[bool, typer.Option("--unreviewed", help="Only broken glass nobody has reviewed.")] = False,
    device: Device = False,
) -> None:
    """Lists proposals, newest first, and which of them you may approve."""
    with _connect(url, device) as server:
        listed = server.list({"unreviewed": "1"} if unreviewed else {"state": state})
    for shown in listed.proposals:
        content = shown.proposal.content
        waits = "  you may approve" if shown.approve.allowed or shown.approve.login_helps else ""
        waits += "  GLASS BROKEN, not reviewed" if shown.proposal.unreviewed else ""
        typer.echo(
            f"{shown.proposal.id}  {_state(shown.proposal)}  {content.risk} risk  {reveal_line(content.title)}{waits}"
        )
    if not listed.proposals:
        typer.echo("There is none that you may see.")
    elif listed.next:
        typer.echo("There are older ones; the approval pages show all.")


@commands.command()
def show(proposal: Id, url: Url = _LOCAL, device: Device = False) -> None:
    """Shows what a proposal changes, and its digest."""
    with _connect(url, device) as server:
        _print(server.show(proposal))


@commands.command()
def approve(
    proposal: Id,
    url: Url = _LOCAL,
    comment: Comment = "",
    digest: Annotated[str, typer.Option(help="What you read: at least 12 characters of its digest.")] = "",
    device: Device = False,
) -> None:
    """Approves exactly what is shown: its digest has to be typed, or given by --digest."""
    with _connect(url, device) as server:
        shown = server.show_for(proposal, lambda shown: shown.approve)
        _print(shown)
        if not shown.approve.allowed:
            raise server.deny(shown, shown.approve)
        short = shown.proposal.digest[:SHORT_DIGEST]
        typed = digest or typer.prompt(f"\nTo approve this, type its digest ({short})", default="", show_default=False)
        if len(typed) < SHORT_DIGEST or not shown.proposal.digest.startswith(typed.strip().lower()):
            raise Conflict("That is not the digest of what is there now, so nothing was approved.")
        _report(server.decide(shown, Verdict.APPROVE, comment))


@commands.command("break-glass")
def break_glass(
    proposal: Id,
    url: Url = _LOCAL,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why now, and why not with a second person.")] = "",
    app: Annotated[str, typer.Option(help="The name of the app that is changed, instead of typing it.")] = "",
    device: Device = False,
) -> None:
    """Approves alone in an emergency, past freezes, windows and budgets; somebody else reviews it afterwards."""
    with _connect(url, device) as server:
        shown = server.show_for(proposal, lambda shown: shown.break_glass)
        _print(shown)
        if not shown.break_glass.allowed:
            raise server.deny(shown, shown.break_glass)
        name = shown.proposal.content.changes[0].target.app.rpartition("/")[2]
        typer.secho("\nThis approves it by you alone. Everybody is told, and somebody else reviews it.", bold=True)
        reason = reason or typer.prompt("Why now, and why not with a second person")
        typed = app or typer.prompt(f"To break the glass, type the name of the app ({reveal_line(name)})", default="")
        _report(server.break_glass(shown, reason, typed.strip()))


@commands.command()
def review(
    proposal: Id,
    finding: Annotated[Finding, typer.Option(help="What you find.")],
    comment: Annotated[str, typer.Option("--comment", "-m", help="Why you find so; kept with the review.")],
    url: Url = _LOCAL,
    device: Device = False,
) -> None:
    """Reviews broken glass: whether it was justified."""
    with _connect(url, device) as server:
        shown = server.show_for(proposal, lambda shown: shown.review)
        if not shown.review.allowed:
            raise Denied(shown.review.why)
        server.review(shown, finding, comment)
    typer.echo(f"{shown.proposal.id}: reviewed, {finding.replace('_', ' ')}.")


@commands.command()
def reject(proposal: Id, url: Url = _LOCAL, comment: Comment = "", device: Device = False) -> None:
    """Rejects a proposal, also one that is approved and not yet applied."""
    with _connect(url, device) as server:
        shown = server.show(proposal)
        if not shown.reject.allowed:
            raise Denied(shown.reject.why)
        _report(server.decide(shown, Verdict.REJECT, comment))


@commands.command()
def watch(
    proposal: Id,
    url: Url = _LOCAL,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object on each line.")] = False,
    device: Device = False,
) -> None:
    """Follows a proposal until it is over. Exits with 0 when it is applied, 3 when it is over otherwise, 4 when it has
    stopped half way and needs a person."""
    with _connect(url, device) as server:
        raise typer.Exit(follow(partial(server.follow, proposal), as_json=as_json))


@commands.command()
def pause(proposal: Id, url: Url = _LOCAL, comment: Comment = "", device: Device = False) -> None:
    """Holds what is being applied: the applier starts nothing more until somebody resumes it."""
    _steer(proposal, Command.PAUSE, comment, url, device)


@commands.command()
def resume(proposal: Id, url: Url = _LOCAL, comment: Comment = "", device: Device = False) -> None:
    """Lets the applier go on with what was paused."""
    _steer(proposal, Command.RESUME, comment, url, device)


@commands.command()
def abort(
    proposal: Id,
    url: Url = _LOCAL,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; kept on record.")] = "",
    device: Device = False,
) -> None:
    """Stops what is being applied and undoes what was done. That can't be taken back."""
    reason = reason or typer.prompt("Why it is aborted, which undoes what was done")
    _steer(proposal, Command.ABORT, reason, url, device)


@commands.command()
def release(
    proposal: Id,
    url: Url = _LOCAL,
    comment: Annotated[str, typer.Option("--comment", "-m", help="What you found and did; kept on record.")] = "",
    device: Device = False,
) -> None:
    """Lets others change the targets of what is stuck: it failed, and could not be undone. Undoes nothing."""
    comment = comment or typer.prompt("What you found and did, so that others may change its targets again")
    _steer(proposal, Command.RELEASE, comment, url, device)


@commands.command()
def logout(url: Url = _LOCAL) -> None:
    """Ends the login that is kept on this machine."""
    with _connect(url, device=False) as server:
        server.log_out()
    typer.echo("Logged out.")


@dataclass(frozen=True, slots=True)
class _Server:
    """The approvals of one Arborgate, as the person who is logged in."""

    session: Session
    client: httpx2.AsyncClient
    runner: asyncio.Runner

    def log_in(self, asked: Asked) -> None:
        self.runner.run(self.session.log_in(asked))

    def log_out(self) -> None:
        self.runner.run(self.session.log_out())

    def list(self, query: dict[str, str]) -> Listed:
        return _parse(Listed, self._send("GET", "", params=query))

    def show(self, proposal_id: str) -> Shown:
        return _parse(Shown, self._send("GET", f"/{quote(proposal_id, safe='')}"))

    def follow(self, proposal_id: str, mark: str) -> Followed:
        """The proposal as soon as it stands elsewhere than at the mark, or as it is after a while."""
        return _parse(Followed, self._send("GET", f"/{quote(proposal_id, safe='')}/changes", params={"after": mark}))

    def show_for(self, proposal_id: str, ruling: Callable[[Shown], RulingBody]) -> Shown:
        """The proposal, after the login that would do where one would."""
        shown = self.show(proposal_id)
        if (needed := ruling(shown)).login_helps:
            typer.echo(needed.why)
            self.log_in(Asked(again=True, acr_values=" ".join(needed.acr_values)))
            shown = self.show(proposal_id)
        return shown

    def decide(self, shown: Shown, verdict: Verdict, comment: str) -> Proposal:
        return self._post(shown, verdict, {"digest": shown.proposal.digest, "comment": comment})

    def break_glass(self, shown: Shown, reason: str, app: str) -> Proposal:
        body = {"digest": shown.proposal.digest, "comment": reason, "app": app}
        return self._post(shown, Verdict.BREAK_GLASS, body)

    def deny(self, shown: Shown, ruling: RulingBody) -> Denied:
        """Why not; what has to be signed with a passkey is on its way in the browser then."""
        if not ruling.signs:
            return Denied(ruling.why)
        page = f"{self.session.slot.origin}/proposals/{quote(shown.proposal.id, safe='')}"
        if has_browser():
            open_browser(page)
        return Denied(
            "This has to be signed with your passkey, which the terminal has none of.", hint=f"Its page: {page}"
        )

    def review(self, shown: Shown, finding: Finding, comment: str) -> Proposal:
        return self._post(shown, "review", {"finding": finding, "comment": comment})

    def steer(self, shown: Shown, command: Command, comment: str) -> Proposal:
        return self._post(shown, command, {"comment": comment})

    def _post(self, shown: Shown, what: str, body: dict[str, str]) -> Proposal:
        return _parse(Proposal, self._send("POST", f"/{quote(shown.proposal.id, safe='')}/{what}", json=body))

    def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self.runner.run(self._ask(method, path, options))
        try:
            body: dict[str, Any] = orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            raise Unavailable(f"{self.session.slot.origin} does not answer as Arborgate does.") from error
        if not answer.is_success:
            told = body.get("error", {})
            raise ArborgateError(reveal(str(told.get("message"))), hint=reveal(told.get("hint") or "") or None)
        return body

    async def _ask(self, method: str, path: str, options: dict[str, Any]) -> httpx2.Response:
        url = f"{self.session.slot.resource}{path}"
        try:
            try:
                return await self.client.request(method, url, **options)
            except LoginAsked as needed:
                await self.session.log_in(needed.asked)
                return await self.client.request(method, url, **options)
        except httpx2.HTTPError as error:
            raise Unavailable(f"{self.session.slot.origin} does not answer.") from error


def _steer(proposal: str, command: Command, comment: str, url: str, device: bool) -> None:
    with _connect(url, device) as server:
        shown = server.show_for(proposal, lambda shown: shown.steer)
        if not shown.steer.allowed:
            raise Denied(shown.steer.why)
        server.steer(shown, command, comment)
    typer.echo(f"{shown.proposal.id}: {_STEERED[command]}.")


@contextmanager
def _connect(url: str, device: bool) -> Iterator[_Server]:
    with asyncio.Runner() as runner:
        session = open_approvals(url, _say, device=device)
        client = httpx2.AsyncClient(
            auth=Authorization(session), timeout=15.0, follow_redirects=False, mounts=LOOPBACK_DIRECT
        )
        try:
            yield _Server(session, client, runner)
        finally:
            runner.run(client.aclose())
            runner.run(session.close())


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _parse(model: type[M], body: dict[str, Any]) -> M:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise Unavailable("The answer can't be read: is this client older than the server?") from error


def _print(shown: Shown) -> None:
    proposal, content, now = shown.proposal, shown.proposal.content, time.time()
    say = typer.echo
    typer.secho(reveal_line(content.title), bold=True)
    say(f"{_state(proposal)} · {content.risk} risk · {', '.join(map(reveal, content.environments))}")
    say(f"Asked for by {_name(content.requester)}, {show_distance(content.created_at, now)}")
    say(f"Expires {write_time(content.expires_at)}, {show_distance(content.expires_at, now)}")
    for reason in content.risk_reasons:
        say(f"Risk: {reveal_line(reason)}")
    say("\nThe agent's words (a claim, checked by nobody):")
    for line in reveal(content.reason).split("\n"):
        say(f"  | {line}")
    rehearsed = content.rehearsal.changes if content.rehearsal else ()
    for index, change in enumerate(content.changes):
        _print_change(index + 1, change, rehearsed[index] if index < len(rehearsed) else None)
    say("")
    for approval in proposal.approvals:
        comment = f": {reveal_line(approval.comment)}" if approval.comment else ""
        verdict = approval.verdict.replace("_", " ")
        say(f"{verdict} by {reveal_line(approval.who)}, {show_distance(approval.at, now)}{comment}")
    if proposal.review:
        found = proposal.review
        finding = f"{found.finding.replace('_', ' ')}, by {reveal_line(found.reviewer.name)}"
        say(f"Glass reviewed: {finding}, {show_distance(found.at, now)}: {reveal_line(found.comment)}")
    elif proposal.unreviewed:
        say("The glass was broken for this, and nobody has reviewed that yet.")
    for budget in shown.budgets:
        most = "" if budget.most is None else f" of {budget.most}"
        say(f"{reveal_line(budget.app)}: {budget.applied}{most} changes in the last 24 hours")
    rulings = {"approve": shown.approve, "reject": shown.reject}
    rulings |= {"break the glass": shown.break_glass} if shown.break_glass.policies else {}
    rulings |= {"review": shown.review} if proposal.unreviewed else {}
    for what, ruling in rulings.items():
        by = f" ({', '.join(ruling.policies)})" if ruling.policies else ""
        say(f"May you {what}? {'Yes' if ruling.allowed else 'No'}. {ruling.why}{by}")
    say(f"Digest: {proposal.digest or 'after the dry run'}")


def _print_change(number: int, change: Change, rehearsed: Rehearsed | None) -> None:
    typer.secho(f"\n{number}. {reveal_line(change.summary)}", bold=True)
    typer.echo(f"   {reveal(str(change.target))}")
    colours = {Mark.ADDED: typer.colors.GREEN, Mark.REMOVED: typer.colors.RED}
    for line in read_diff(change.diff, str):
        typer.secho(f"   | {line.sign or ' '} {line.text}", fg=colours.get(line.mark))
    undo = "can be undone" if change.undo is not None else "can't be undone"
    typer.echo(f"   Undo: {undo}{': ' if change.undo_note else ''}{reveal(change.undo_note)}")
    well = f"is {change.check.health}" if change.check.health else "takes it"
    typer.echo(f"   Worked when: {reveal(change.check.app)} {well} within {change.check.timeout} s")
    if change.check.bake:
        typer.echo(f"   And stays so for {change.check.bake} s")
    for probe in change.check.probes:
        typer.echo(f"   And {reveal(str(probe))}")
    if rehearsed is not None:
        typer.echo(f"   Dry run: {'accepted' if rehearsed.ok else f'refused: {reveal_line(rehearsed.refusal)}'}")
        for warning in rehearsed.warnings:
            typer.echo(f"   Warning: {reveal_line(warning)}")


def _report(proposal: Proposal) -> None:
    typer.echo(f"{proposal.id} is {_state(proposal)}.")


def _state(proposal: Proposal) -> str:
    return str(proposal.state).replace("_", " ")


def _name(who: Requester) -> str:
    return reveal_line(who.name) + (f" through the agent {reveal_line(who.agent)}" if who.agent else "")
