"""A proposal: an ordered set of changes with a reason, a digest and a state, and where proposals are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ..policies.model import Binding, Caller, Resource, ResourceType
from .app import AppId
from .change import Change, Rehearsal, digest_json
from .closed import Closed
from .evidence import Evidence
from .risk import Risk, RiskFactor


class ProposalState(StrEnum):
    """Where a proposal stands; design section 7 draws the transitions."""

    DRAFTED = "drafted"
    PROPOSED = "proposed"
    APPROVED = "approved"
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    STALE = "stale"
    REFUSED = "refused"

    @property
    def final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset(
    {
        ProposalState.APPLIED,
        ProposalState.ROLLED_BACK,
        ProposalState.REJECTED,
        ProposalState.WITHDRAWN,
        ProposalState.EXPIRED,
        ProposalState.STALE,
        ProposalState.REFUSED,
    }
)


class Requester(Closed):
    """Who asked: the person (`key`, `name`), what they may be judged by again later, and the agent acting for them.

    `authenticated_at` (seconds since the epoch, 0: nobody knows) and `acr` say when and how they logged in."""

    key: str
    issuer: str
    subject: str
    name: str
    groups: tuple[str, ...]
    roles: tuple[str, ...]
    agent: str
    actors: tuple[str, ...] = ()
    itself: bool = False
    binding: Binding = Binding.BEARER
    authenticated_at: int = 0
    acr: str = ""

    @classmethod
    def of(cls, caller: Caller) -> Requester:
        return cls(
            key=caller.key,
            issuer=caller.issuer,
            subject=caller.subject,
            name=caller.name,
            groups=tuple(sorted(caller.groups)),
            roles=tuple(sorted(caller.roles)),
            agent=caller.agent,
            actors=caller.actors,
            itself=caller.itself,
            binding=caller.binding,
            authenticated_at=caller.authenticated_at,
            acr=caller.acr,
        )


GLASS_REASON_LEAST = 20
"""The fewest characters that a reason for breaking the glass has."""


class Draft(Closed):
    """What a tool asks to have kept: the changes in order, the reason in the agent's words, the environments; and the id,
    where the changes name the proposal that they are of (`""`: any)."""

    title: str
    reason: str
    changes: tuple[Change, ...]
    environments: tuple[str, ...]
    risk: Risk
    factors: tuple[RiskFactor, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    id: str = ""


class Content(Closed):
    """All that an approver sees and approves. The digest is SHA-256 over the RFC 8785 form of this, in hexadecimal.

    Times are seconds since the epoch. `rehearsal` is null only while the proposal is drafted or refused."""

    id: str
    title: str
    reason: str
    requester: Requester
    created_at: float
    expires_at: float
    environments: tuple[str, ...]
    risk: Risk
    factors: tuple[RiskFactor, ...] = ()
    approvals_needed: int
    changes: tuple[Change, ...]
    rehearsal: Rehearsal | None = None
    evidence: tuple[Evidence, ...] = ()

    later = frozenset({"evidence"})

    @property
    def risk_reasons(self) -> tuple[str, ...]:
        return tuple(each.why for each in self.factors)


def digest_content(content: Content) -> str:
    """What an approval is about: SHA-256 (hexadecimal) over the RFC 8785 form of the whole content."""
    return digest_json(content.model_dump(mode="json"))


class Verdict(StrEnum):
    """What an approver says of a digest. Breaking the glass is to approve alone, in an emergency."""

    APPROVE = "approve"
    BREAK_GLASS = "break_glass"
    REJECT = "reject"


class Assertion(Closed):
    """What a passkey signed (Web Authentication, section 5.2.2): each a base64url text, `credential` naming the passkey
    and `user_handle` its owner (`""` where the authenticator did not say)."""

    credential: str
    authenticator_data: str
    client_data: str
    signature: str
    user_handle: str = ""


class Approval(Closed):
    """A statement about one digest by someone entitled to make it. `signature` is a compact JWS over the rest.

    Times are seconds since the epoch. Broken glass lapses at `until`, unless applying has begun; 0 for other verdicts.
    A parent app's has instead of a signature the `statement` that its controller has signed, good before `until`.
    `assertion` is the approver's own signature, by a key that never left their device; without one there is only the
    word of the session that they were logged in with."""

    proposal: str
    digest: str
    verdict: Verdict
    approver: Requester
    comment: str
    at: float
    authenticated_at: float
    session: str
    until: float = 0.0
    assertion: Assertion | None = None
    statement: str = ""
    signature: str = ""

    later = frozenset({"statement"})

    @property
    def who(self) -> str:
        """Who says it, for showing: a person's name, or which parent app it is."""
        return f"the parent app {self.approver.subject}" if self.statement else self.approver.name


def count_votes(approvals: Iterable[Approval]) -> int:
    """How many places approvals take: parent apps together that of one person, however many have approved."""
    given = {one.approver.key: one for one in approvals if one.verdict is not Verdict.REJECT}.values()
    return sum(not one.statement for one in given) + any(one.statement for one in given)


class Finding(StrEnum):
    """What a review says of broken glass."""

    JUSTIFIED = "justified"
    NOT_JUSTIFIED = "not_justified"


class GlassReview(Closed):
    """What somebody who was not part of it found afterwards about broken glass; `at` is seconds since the epoch."""

    finding: Finding
    reviewer: Requester
    comment: str
    at: float


class Order(StrEnum):
    """What a person tells the applier about a proposal that it is applying: to wait, or to stop and undo."""

    PAUSE = "pause"
    ABORT = "abort"


class Hold(Closed):
    """An order that stands until it is taken back, given at `at` (seconds since the epoch)."""

    order: Order
    by: Requester
    comment: str
    at: float


class StepState(StrEnum):
    """How far one change has come while applying."""

    PENDING = "pending"
    STARTED = "started"
    APPLIED = "applied"
    HEALTHY = "healthy"
    FAILED = "failed"
    UNDOING = "undoing"
    UNDONE = "undone"
    STUCK = "stuck"


class Release(Closed):
    """That somebody has seen to what an undo could not undo: others may change its targets again. `at` is seconds since
    the epoch."""

    by: Requester
    comment: str
    at: float


class Step(Closed):
    """Where one change stands. `seen` is the digest of the app's last operation before the change was started, and
    `digest` that of the touched fields after the patch: empty as long as the patch has not taken. What is `stuck` was to
    be undone and could not be; `message` says why."""

    state: StepState = StepState.PENDING
    message: str = ""
    at: float = 0.0
    seen: str = ""
    digest: str = ""


class Proposal(Closed):
    """A proposal as it is kept: its content and digest, and what has happened to it."""

    content: Content
    digest: str
    state: ProposalState
    state_at: float
    state_note: str = ""
    approvals: tuple[Approval, ...] = ()
    steps: tuple[Step, ...] = ()
    review: GlassReview | None = None
    release: Release | None = None

    @property
    def id(self) -> str:
        return self.content.id

    @property
    def glass(self) -> Approval | None:
        """The approval that broke the glass, if any did."""
        return next((one for one in self.approvals if one.verdict is Verdict.BREAK_GLASS), None)

    @property
    def breaker(self) -> str:
        """The key of the person who broke the glass; `""` where nobody did."""
        return self.glass.approver.key if self.glass else ""

    @property
    def unreviewed(self) -> bool:
        """Whether the glass was broken and nobody has reviewed that."""
        return self.glass is not None and self.review is None

    @property
    def stuck(self) -> bool:
        """Whether it can neither be finished nor undone: it keeps its targets to itself until somebody releases them."""
        return self.release is None and any(step.state is StepState.STUCK for step in self.steps)

    @property
    def ends_at(self) -> float:
        """When it can no longer be begun, in seconds since the epoch."""
        return min(self.content.expires_at, self.glass.until) if self.glass else self.content.expires_at


@dataclass(frozen=True, slots=True)
class ProposalQuery:
    """Which proposals; empty fields match all. `before` pages backwards from an id's position."""

    states: tuple[ProposalState, ...] = ()
    requester: str = ""
    app: str = ""
    before: str = ""
    limit: int = 20


@dataclass(frozen=True, slots=True)
class ProposalPage:
    """Proposals newest first, and the position to go on from (`""` at the end)."""

    proposals: Sequence[Proposal]
    next: str


class Proposals(Protocol):
    """The proposals in the state Redis. Transitions are atomic; a lost race raises `Conflict`."""

    def new_id(self) -> str:
        """An id that no proposal has, for a draft whose changes name it."""
        ...

    async def draft(self, caller: Caller, draft: Draft) -> Proposal:
        """Keeps a new proposal (`drafted`) and hands it to the applier for rehearsal."""
        ...

    async def settle(self, proposal_id: str, timeout: float) -> Proposal:
        """The proposal once it has left `drafted`, or as it is after `timeout` seconds."""
        ...

    async def wait(self, proposal: Proposal, by: str, timeout: float) -> Proposal:
        """The proposal as soon as it is another than this, or as it is after `timeout` seconds; `by` is the key of the
        person who waits. Raises `Busy` when they wait for too many, `NotThere` and `Unavailable`."""
        ...

    async def get(self, proposal_id: str) -> Proposal:
        """Raises `NotThere`."""
        ...

    async def list(self, query: ProposalQuery) -> ProposalPage: ...

    async def withdraw(self, proposal_id: str, caller: Caller) -> Proposal:
        """`drafted`, `proposed` or `approved` to `withdrawn`."""
        ...

    async def has_applied(self, requester: str) -> bool:
        """Whether any proposal of the person with this key was ever applied."""
        ...


def touched(proposal: Proposal) -> list[AppId]:
    """The apps whose objects the proposal changes, each once, in the order of the changes."""
    return list(dict.fromkeys(AppId.parse(change.target.app) for change in proposal.content.changes))


def proposal_resources(proposal: Proposal, apps: Sequence[Resource]) -> tuple[Resource, ...]:
    """The proposal as policy resources, one per app it touches: a grant on one app must not reach into another."""
    attributes = (
        ("breaker", proposal.breaker),
        ("factors", tuple(sorted({str(each.factor) for each in proposal.content.factors}))),
        ("requester", proposal.content.requester.key),
        ("risk", str(proposal.content.risk)),
    )
    return tuple(Resource(ResourceType.PROPOSAL, proposal.id, (app,), attributes) for app in apps)
