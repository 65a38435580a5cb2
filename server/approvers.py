"""The approvers that the applier trusts: people and their passkeys, pinned in a file that `serve` can't write."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from ..policies.errors import Refused
from ..policies.model import Binding
from ..tools.proposal import Approval, Content, Requester
from ..tools.risk import Risk
from .passkeys import Passkey, RelyingParty, check_assertion
from .settings import SessionApprovals
from .uses import Uses
from .yaml_files import read_file


class Approver(BaseModel):
    """A person with their passkeys; `groups` are those that they had when the file was written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str
    subject: str
    name: str
    groups: tuple[str, ...] = ()
    passkeys: tuple[Passkey, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.issuer}#{self.subject}"


class Approvers(BaseModel):
    """All of them: nobody twice, no passkey with two owners."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    approvers: tuple[Approver, ...] = ()

    @model_validator(mode="after")
    def _once_each(self) -> Approvers:
        passkeys = [passkey.id for one in self.approvers for passkey in one.passkeys]
        for what, names in (("person", [one.key for one in self.approvers]), ("passkey", passkeys)):
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                raise ValueError(f"the {what} {twice[0]} is there twice")
        return self


def read_approvers(path: Path) -> Approvers:
    """The file of `applier.approvers_file`; raises `BadConfiguration`."""
    return read_file(path, Approvers)


def write_approvers(approvers: Approvers) -> str:
    """The same as the text of a file, always in the same order, so that two can be compared by line."""
    people = sorted(approvers.approvers, key=lambda one: one.key)
    return yaml.safe_dump(
        {"approvers": [one.model_dump(mode="json") for one in people]}, sort_keys=False, allow_unicode=True
    )


@dataclass(frozen=True, slots=True)
class Pinned:
    """Whom the applier believes: what `serve` signed is not enough, and who somebody is stands in the file alone."""

    approvers: Approvers
    party: RelyingParty
    uses: Uses
    sessions: SessionApprovals = SessionApprovals.NEVER

    def believe(self, approval: Approval, content: Content, digest: str, risk: Risk) -> Approval:
        """The approval with its approver as the file has them; `risk` is what the applier itself found.

        Raises `Refused` for one that a pinned passkey of that person did not sign, unless the settings let a session do
        for a low risk."""
        approver = next((one for one in self.approvers.approvers if one.key == approval.approver.key), None)
        if approval.assertion is None and risk is Risk.LOW and self.sessions is SessionApprovals.LOW_RISK:
            return approval if approver is None else _as_pinned(approval, approver)
        name = approval.approver.name
        if approval.assertion is None:
            raise Refused(f"The approval by {name} is not signed with a passkey, and without one it does not count.")
        if approver is None:
            raise Refused(f"{name} is not one of the approvers that the applier knows.")
        passkey = next((one for one in approver.passkeys if one.id == approval.assertion.credential), None)
        if passkey is None:
            raise Refused(f"The approval by {name} is signed with a passkey that the applier does not know.")
        count = check_assertion(approval, content, digest, passkey, self.party)
        self.uses.note(approval.assertion, count, approval.at)
        return _as_pinned(approval, approver)


def _as_pinned(approval: Approval, approver: Approver) -> Approval:
    """How and when they logged in stays `serve`'s word: the passkey itself has asked who they are."""
    who = Requester(
        key=approver.key,
        issuer=approver.issuer,
        subject=approver.subject,
        name=approver.name,
        groups=approver.groups,
        roles=(),
        agent="",
        binding=Binding.SESSION,
        authenticated_at=approval.approver.authenticated_at,
        acr=approval.approver.acr,
    )
    return approval.model_copy(update={"approver": who})
