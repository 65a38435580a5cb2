"""A thief who has all that `serve` has: its key, all of Redis, and what it shows to people. Three people have passkeys."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arborgate.policies.model import Caller
from arborgate.server.approvals import sign_approval
from arborgate.server.approvers import Approver, Approvers, Pinned
from arborgate.server.passkeys import RelyingParty, write_statement
from arborgate.server.settings import SessionApprovals
from arborgate.server.uses import Uses
from arborgate.tools.proposal import Approval, Assertion, Proposal, Verdict, digest_content
from tests.parts.authenticator import Authenticator
from tests.server.applier.test_trust import dump
from tests.server.applier.world import World, signing_key

PARTY = RelyingParty.of("https://arborgate.test")


def pin(caller: Caller, *devices: Authenticator) -> Approver:
    return Approver(
        issuer=caller.issuer,
        subject=caller.subject,
        name=caller.name,
        groups=tuple(sorted(caller.groups)),
        passkeys=tuple(device.passkey for device in devices),
    )


@dataclass
class Heist:
    """A world whose applier pins Ana, Bob and the responder Rita, and a thief who has all that `serve` has."""

    world: World
    ana: Authenticator
    bob: Authenticator
    rita: Authenticator
    uses: Path

    def pin(self, sessions: SessionApprovals = SessionApprovals.NEVER) -> None:
        """As a freshly started applier would read its file."""
        ana, bob = self.world.approver("ana"), self.world.approver("bob")
        people = (pin(ana, self.ana), pin(bob, self.bob), pin(self.world.responder(), self.rita))
        self.world.pinned = Pinned(Approvers(approvers=people), PARTY, Uses(self.uses), sessions)
        self.world.worker = self.world.make_worker()

    def sign(
        self, device: Authenticator, proposal: Proposal, verdict: Verdict = Verdict.APPROVE, **lies: Any
    ) -> Assertion:
        return device.sign(write_statement(proposal.content, proposal.digest, verdict, device.owner), **lies)

    def vote(self, proposal: Proposal, **fields: Any) -> Approval:
        """Ana's, signed by `serve`'s key as everything here is; `fields` replace what is in it."""
        fields.setdefault("assertion", self.sign(self.ana, proposal))
        return self.world.vote(proposal, **fields)

    async def plant(self, proposal: Proposal, *approvals: Approval, **fields: str) -> None:
        await self.world.forge(proposal.id, **{"state": "approved", "approvals": dump(*approvals), **fields})

    async def swap(self, proposal: Proposal, *approvals: Approval, **changed: Any) -> None:
        """Other content under the same approvals, with a digest that fits it."""
        content = proposal.content.model_copy(update=changed)
        told = {"content": content.model_dump_json(), "digest": digest_content(content)}
        again = [sign_approval(one.model_copy(update={"digest": told["digest"]}), signing_key()) for one in approvals]
        await self.plant(proposal, *again, **told)


def plan_heist(world: World, folder: Path) -> Heist:
    people = (world.approver("ana"), world.approver("bob"), world.responder())
    ana, bob, rita = (Authenticator(PARTY, who.key) for who in people)
    made = Heist(world, ana, bob, rita, folder / "uses.json")
    made.pin()
    return made
