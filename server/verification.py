"""What the applier checks by itself before it believes a proposal: its shape, its approvals, and policy once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from itertools import combinations

from joserfc.jwk import OKPKey

from ..policies.engine import Engine
from ..policies.errors import Invalid, Refused
from ..policies.model import Action, Caller, Channel, Decision, Question, Resource
from ..tools.argocd.changes import app_target
from ..tools.change import Change, JsonObject, Target
from ..tools.diff import list_fields, overlap
from ..tools.environments import Environments
from ..tools.promotion.claims import check_brought, check_promotion
from ..tools.proposal import (
    Approval,
    Content,
    Proposal,
    Requester,
    Verdict,
    digest_content,
    proposal_resources,
)
from ..tools.record import Judged
from ..tools.retelling import retell
from ..tools.risk import Risk, RiskFactor, find_factors, rate
from ..tools.rollouts.changes import workload_target
from ..tools.rollouts.claims import find_downgrades, find_excess
from ..tools.tree import AppTree, Node
from .approvals import verify_approval
from .approvers import Pinned
from .counts import Counts
from .fresh import require_fresh
from .git_checks import GitChecks, is_value
from .identity.roles import grants_of, roles_of
from .lifetimes import check_given, check_lifetime
from .parents import Parents
from .proposals import APPLIER, VERDICT_ACTIONS, approvals_needed
from .reasons import explain_denial
from .retold import RETELLINGS, check_words, find_earlier
from .settings import Settings
from .thresholds import Thresholds
from .votes import check_glass, find_lack

_DOES = {
    Action.PROPOSAL_APPROVE: "approve this",
    Action.PROPOSAL_APPROVE_WITHIN: "approve this as a parent app",
    Action.PROPOSAL_BREAK_GLASS: "break the glass for this",
}


class Verifier:
    """Judges proposals by the applier's own tree, settings, policies and key; nothing is taken from Redis on trust.

    Every check raises `Refused` with a reason that people can read, or `Unavailable` when it can't be told now."""

    def __init__(
        self,
        *,
        engine: Callable[[], Engine],
        tree: AppTree,
        environments: Environments,
        key: OKPKey,
        settings: Settings,
        clusters: Collection[str],
        pinned: Pinned | None = None,
        parents: Parents | None = None,
        clean: Callable[[str], str] = str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`pinned` are the approvers who count, by their own passkeys; without them `serve`'s signature is enough.
        `parents` are the parent apps that may approve what lies below them.
        `clean` takes secrets out of text, as it did for what is kept."""
        self._engine = engine
        self._tree = tree
        self._environments = environments
        self._key = key
        self._settings = settings
        self._clusters = clusters
        self._pinned = pinned
        self._parents = parents
        self._clean = clean
        self._clock = clock
        self._git = GitChecks(settings.git, tree)
        self._thresholds = Thresholds(engine, tree.resource, settings.proposals)

    def check_content(self, content: Content) -> None:
        """The changes are what they claim to be: each of an object of its app, touching only what its precondition
        watches and what its kind says, none touching what another relies on; they tell all of their risk that can be
        seen from here; and the requester may ask for them."""
        if not content.changes:
            raise Refused("The proposal changes nothing.")
        check_lifetime(content, self._settings.proposals.expire_after, self._clock())
        for change in content.changes:
            self._check_target(change)
            _check_fields(change)
            self._check_kind(change)
        for one, other in combinations(content.changes, 2):
            _check_apart(one, other)
        self._check_risk(content)
        environments = {self._node(change.target.app).app.environment for change in content.changes}
        own = approvals_needed(self._settings.proposals, self._find_risk(content))
        needed = max(own, self._thresholds.find_needed(content))
        check_words(content, environments, needed, self._clean)
        requester = self._caller(content.requester, Channel.MCP, content.requester.authenticated_at)
        for app in self._apps(content):
            decision = self._engine().decide(requester, Action.ROLLOUT_PROPOSE, app, at=content.created_at)
            if not decision.allowed:
                raise Refused(f"Policy does not let {content.requester.name} propose changes of {app.id}.")

    def find_origin(self, content: Content, index: int) -> Target | None:
        """The Application that a change is promoted from, which `check_told` needs; None for any other change."""
        origin = check_promotion(content.changes[index], content.id, self._tree, self._settings.promotion)
        return app_target(origin.app) if origin else None

    def check_told(self, content: Content, index: int, live: JsonObject, origin: JsonObject | None = None) -> None:
        """A change does what it shows, to the object as it is: its planner, asked again, says the same in every word,
        and of no risk that the content does not tell. What is promoted ran in `origin`."""
        change = content.changes[index]
        if change.promotion is not None:
            check_brought(change, change.promotion, origin or {}, live, self._settings.promotion)
        node, earlier = self._node(change.target.app), find_earlier(content.changes, index)
        plan = retell(
            {**RETELLINGS, **self._git.retellings}, node, change, live, earlier, proposed_at=content.created_at
        )
        _check_tells(content, plan.risks)

    def check_approvals(self, proposal: Proposal) -> Sequence[Approval]:
        """The content is what was approved, by enough people other than the requester, each by a valid signature; or one
        of them broke the glass. Says nothing about whether policy still lets them. Returns the approvals that count, by
        whom the applier itself knows to have made them: one per person, or the one that broke the glass."""
        content = proposal.content
        digest = digest_content(content)
        rehearsal = content.rehearsal
        rehearsed = rehearsal is not None and rehearsal.ok and len(rehearsal.changes) == len(content.changes)
        if not rehearsed or proposal.digest != digest:
            raise Refused("What this proposal says now is not what its digest stands for.")
        risk = self._find_risk(content)
        counted: dict[str, Approval] = {}
        for approval in proposal.approvals:
            self._check_approval(approval, content, digest)
            pinned = self._pinned if not approval.statement else None
            believed = pinned.believe(approval, content, digest, risk) if pinned else approval
            counted[believed.approver.key] = believed
        if glass := next((one for one in counted.values() if one.verdict is Verdict.BREAK_GLASS), None):
            return (glass,)
        self._check_votes(content, risk, tuple(counted.values()))
        return tuple(counted.values())

    def judge_policy(self, proposal: Proposal, approvals: Sequence[Approval], counts: Counts, at: float) -> Judged:
        """Policy still lets the approvers approve, as of when they did, and the applier apply at the moment `at`: the first
        denial, or else the decision about the applier itself, for `require` to insist on."""
        engine, apps = self._engine(), self._apps(proposal.content)
        unbroken = proposal.model_copy(update={"approvals": ()})
        if lapsed := [one for one in approvals if one.statement and at >= one.until]:
            approvals = [one for one in approvals if one not in lapsed]
            self._check_votes(proposal.content, self._find_risk(proposal.content), approvals)
        questions = [
            self._parents.ask(approval, proposal, apps, counts, at)
            if approval.statement and self._parents
            else Question(
                self._caller(approval.approver, Channel.PAGES, int(approval.authenticated_at)),
                action,
                proposal_resources(unbroken, apps),
                tuple(
                    counts.context(
                        action,
                        proposal,
                        app.id,
                        approval.approver.key,
                        approval.at,
                        past=True,
                        signed=_is_signed(approval),
                    )
                    for app in apps
                ),
                approval.at,
            )
            for approval in approvals
            for action in (VERDICT_ACTIONS[approval.verdict],)
        ]
        action = Action.PROPOSAL_APPLY
        counted = proposal.model_copy(update={"approvals": tuple(approvals)})
        contexts = tuple(counts.context(action, counted, app.id, APPLIER.key, at) for app in apps)
        questions.append(Question(APPLIER, action, proposal_resources(proposal, apps), contexts, at))
        judged = [Judged(engine.answer(question), question, engine.digest) for question in questions]
        return next((each for each in judged if not each.decision.allowed), judged[-1])

    def require(self, judged: Judged) -> None:
        """Raises `Refused` for a denial."""
        decision, question, _ = judged
        if decision.allowed:
            return
        if question.action is not Action.PROPOSAL_APPLY:
            who, what = question.caller.name, _DOES[question.action]
            raise Refused(f"Policy does not let {who} {what}{_name_policies(decision)}.")
        reasons = explain_denial(self._engine(), APPLIER, question.resources, decision, question.at)
        raise Refused(f"Policy does not let the applier apply this{_name_policies(decision)}. {reasons}".strip())

    def _check_risk(self, content: Content) -> None:
        """An approver must not have been shown, nor policy been told, less than there is."""
        _check_tells(content, self._find_factors(content))
        if rate(content.factors) is Risk.HIGH and content.risk is not Risk.HIGH:
            raise Refused("It tells less risk than it has.")

    def _check_votes(self, content: Content, risk: Risk, approvals: Sequence[Approval]) -> None:
        needed = max(content.approvals_needed, approvals_needed(self._settings.proposals, risk))
        alone = self._parents.alone(approvals) if self._parents else False
        if lack := find_lack(approvals, needed, risk, alone=alone):
            raise Refused(lack)

    def _check_approval(self, approval: Approval, content: Content, digest: str) -> None:
        name = approval.approver.name
        if not approval.statement:
            verify_approval(approval, self._key)
        elif self._parents is None:
            raise Refused(f"The approval by {name} is a parent app's, and the applier takes none.")
        else:
            self._parents.check(approval, content, digest)
        check_given(approval, self._clock())
        if approval.proposal != content.id or approval.digest != digest:
            raise Refused(f"The approval by {name} is about something else.")
        if approval.verdict is Verdict.REJECT:
            raise Refused(f"{name} has rejected it.")
        if approval.approver.key == content.requester.key:
            raise Refused("It was approved by the one who asked for it.")
        if not (approval.statement or content.created_at <= approval.at < content.expires_at):
            raise Refused(f"The approval by {name} was given outside the time for it.")
        if approval.verdict is Verdict.BREAK_GLASS:
            try:
                check_glass(approval, self._settings.proposals.break_glass_lasts)
            except Invalid as error:
                raise Refused(f"{name} has not validly broken the glass: {error.message}") from error

    def _find_risk(self, content: Content) -> Risk:
        """By what the applier itself knows of the apps, never less than what the approvers were shown."""
        return Risk.HIGH if rate((*self._find_factors(content), *content.factors)) is Risk.HIGH else content.risk

    def _find_factors(self, content: Content) -> Sequence[RiskFactor]:
        """What can be seen from here."""
        nodes = {change.target.app: self._node(change.target.app) for change in content.changes}
        found = find_factors(content.changes, self._tree, self._environments)
        return (*found, *find_downgrades(content.changes, nodes))

    def _check_kind(self, change: Change) -> None:
        """A change that is called a sync must not move the app to another cluster on the way."""
        if not is_value(change) and (field := find_excess(change, self._node(change.target.app).app)):
            kind = str(change.kind).replace("_", " ")
            raise Refused(f"The change of {change.target} writes {field}, which no {kind} does.")

    def _check_target(self, change: Change) -> None:
        node, target = self._node(change.target.app), change.target
        if change.check.app != target.app:
            raise Refused(f"The change of {target} would be judged by another app.")
        if self._git.check(node, change) or target == app_target(node.app):
            return
        for name in (f"{target.kind}/{target.namespace}/{target.name}", f"{target.kind}/{target.name}"):
            try:
                if workload_target(node, name, self._clusters) == target:
                    return
            except Invalid:
                continue
        raise Refused(f"{target} is not an object of {target.app}.")

    def _node(self, app: str) -> Node:
        return require_fresh(self._tree, self._clusters, app)

    def _apps(self, content: Content) -> list[Resource]:
        apps = dict.fromkeys(change.target.app for change in content.changes)
        return [self._node(app).resource for app in apps]

    def _caller(self, who: Requester, channel: Channel, authenticated_at: int) -> Caller:
        """The person as policy knows them here: roles follow from groups by the applier's own settings."""
        issuers = {issuer.issuer: issuer.roles for issuer in self._settings.identity.issuers}
        allowed = issuers.get(who.issuer)
        roles = {name: it for name, it in self._settings.roles.items() if allowed is None or name in allowed}
        return Caller(
            issuer=who.issuer,
            subject=who.subject,
            name=who.name,
            groups=frozenset(who.groups),
            roles=roles_of(who.groups, roles),
            agent=who.agent,
            channel=channel,
            actors=who.actors,
            authenticated_at=authenticated_at,
            itself=who.itself,
            binding=who.binding,
            acr=who.acr,
            grants=grants_of(who.groups, roles),
        )


def _is_signed(approval: Approval) -> bool:
    return approval.assertion is not None


def _name_policies(decision: Decision) -> str:
    return f" ({', '.join(decision.policies)})" if decision.policies else ""


def _check_tells(content: Content, factors: Sequence[RiskFactor]) -> None:
    told = {each.factor for each in content.factors}
    if untold := [each for each in factors if each.factor not in told]:
        raise Refused(f"It does not tell all of its risk: {untold[0].why}")


def _check_fields(change: Change) -> None:
    """A field that the precondition does not watch could be changed under somebody's hands unseen."""
    for patch in (change.patch, *([] if change.undo is None else [change.undo])):
        for written in list_fields(patch):
            if not any(f"{written}/".startswith(f"{field}/") for field in change.precondition.fields):
                raise Refused(f"The change of {change.target} writes {written}, which its precondition does not watch.")


def _check_apart(one: Change, other: Change) -> None:
    """Two changes of one object must leave each other's precondition alone, or neither could be checked or undone."""
    if one.target != other.target:
        return
    for first, second in ((one, other), (other, one)):
        watched = second.precondition.fields
        if any(overlap(written, field) for written in list_fields(first.patch) for field in watched):
            raise Refused(f"Two changes of {one.target} touch the same field.", hint="Propose them one by one.")
