"""Parent apps as the applier knows them: which there are, what they have signed, and what policy is asked about it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..policies.errors import BadConfiguration, Refused
from ..policies.model import Action, Attribute, Binding, Caller, Channel, Question, Resource
from ..tools.app import AppId, Health
from ..tools.promotion.ladder import PromotionSettings
from ..tools.proposal import Approval, Content, Proposal, Requester, StepState, Verdict, proposal_resources
from ..tools.rollouts.brought import changes_of, is_proven, kinds_of
from ..tools.tree import AppTree, Node
from .counts import Counts
from .fresh import require_fresh
from .parent_settings import ParentSettings
from .parent_statements import Keys, ParentVerdict, Statement, check_times, parse_keys, read_statement
from .settings import Settings

ISSUER = "arborgate:app"
"""The issuer of every parent app: no identity provider can have this name, which is no URL."""

ROLE = "parent"
"""What a parent app is at itself and below it."""

ACTIONS = {Verdict.APPROVE: Action.PROPOSAL_APPROVE_WITHIN, Verdict.REJECT: Action.PROPOSAL_REJECT_WITHIN}

log = logging.getLogger(__name__)


def parent_caller(app: str) -> Caller:
    """A parent app as a caller, by its id."""
    return Caller(
        issuer=ISSUER,
        subject=app,
        name=app.rpartition("/")[2],
        groups=frozenset(),
        roles=frozenset(),
        agent="",
        channel=Channel.PARENT,
        itself=True,
        binding=Binding.LOCAL,
        grants=frozenset({(ROLE, app)}),
    )


def make_approval(statement: Statement, text: str, clean: Callable[[str], str] = str) -> Approval:
    """The vote that a statement is; `text` is the statement as it was signed. Not for one that passes."""
    return Approval(
        proposal=statement.proposal,
        digest=statement.digest,
        verdict=Verdict(statement.verdict),
        approver=Requester.of(parent_caller(statement.app)),
        comment=clean(statement.reason),
        at=statement.iat,
        authenticated_at=0.0,
        session="",
        until=statement.exp,
        statement=text,
    )


@dataclass(slots=True)
class _KeyFile:
    """Keys in a file, read again when it changes; while it can't be read nobody is believed."""

    path: Path
    seen: tuple[int, int] = (0, 0)
    keys: Keys = field(default_factory=dict)

    def read(self) -> Keys:
        try:
            stat = self.path.stat()
            if (stamp := (stat.st_mtime_ns, stat.st_size)) != self.seen:
                self.keys, self.seen = parse_keys(self.path.read_bytes(), str(self.path)), stamp
        except OSError as error:
            self.keys, self.seen = {}, (0, 0)
            raise BadConfiguration(f"{self.path}: can't be read: {error.strerror}") from error
        except BadConfiguration:
            self.keys, self.seen = {}, (0, 0)
            raise
        return self.keys


class Parents:
    """The parent apps of the settings. Every check raises `Refused`, or `Unavailable` when it can't be told now."""

    def __init__(
        self,
        settings: Sequence[ParentSettings],
        *,
        tree: AppTree,
        clusters: Collection[str],
        ladder: PromotionSettings,
        clean: Callable[[str], str] = str,
    ) -> None:
        """Raises `BadConfiguration` for keys that can't be read at the start."""
        self._settings = tuple(settings)
        self._tree = tree
        self._clusters = clusters
        self._ladder = ladder
        self._clean = clean
        self._files = {one.app: _KeyFile(one.jwks_file) for one in settings if one.jwks_file}
        self._inline = {
            one.app: parse_keys(one.jwks, f"parents: {one.app}") for one in settings if one.jwks is not None
        }
        for file in self._files.values():
            file.read()

    @classmethod
    def of(cls, settings: Settings, tree: AppTree, clusters: Collection[str], clean: Callable[[str], str]) -> Parents:
        """Those that the settings name."""
        return cls(settings.parents, tree=tree, clusters=clusters, ladder=settings.promotion, clean=clean)

    def listed(self) -> Iterator[tuple[str, ParentSettings]]:
        """The ids of the parent apps that are there, each with its settings. Two entries for one app are none."""
        found = [(str(nodes[0].app.id), one) for one in self._settings if len(nodes := self._named(one.app)) == 1]
        ids = [app for app, _ in found]
        return (pair for pair in found if ids.count(pair[0]) == 1)

    def asked(self, content: Content) -> Sequence[str]:
        """The ids of the parent apps that all targets lie below. What an app asks for itself is for people to decide."""
        if content.requester.itself:
            return ()
        return [app for app, _ in self.listed() if all(self._is_below(app, one) for one in _targets(content))]

    def read(self, text: str, app: str) -> Statement:
        """What this parent app has signed; raises `Refused` for what another has, or nobody."""
        settings = self._find(app)
        statement = read_statement(text, self._keys(app, settings))
        if statement.app != app:
            raise Refused("The statement is in the name of another parent app.", detail=statement.app[:200])
        return statement

    def check_scope(self, statement: Statement, content: Content, digest: str) -> None:
        """The statement is about exactly this, and this is for that parent app to decide."""
        if statement.proposal != content.id or statement.digest != digest:
            raise Refused("The statement is about something else.")
        if content.requester.itself:
            raise Refused("An app has asked for this by itself, so a person has to decide it.")
        if strays := [one for one in _targets(content) if not self._is_below(statement.app, one)]:
            raise Refused(f"{strays[0]} does not lie below {statement.app}.")
        if not int(content.created_at) <= statement.iat < content.expires_at:
            raise Refused("The statement was made outside the time for it.")

    def check(self, approval: Approval, content: Content, digest: str) -> Approval:
        """A vote in the state is what its parent app has signed, in every field; that has not expired is for `lapsed`."""
        app = approval.approver.subject
        statement = self.read(approval.statement, app)
        self.check_scope(statement, content, digest)
        check_times(statement, statement.iat)
        if statement.verdict is ParentVerdict.PASS:
            raise Refused(f"{app} has passed this on to people.")
        if make_approval(statement, approval.statement, self._clean) != approval:
            raise Refused(f"The approval by {app} is not what it has signed.")
        return approval

    def resources(self, content: Content) -> Sequence[Resource]:
        """The targets as policy resources."""
        return [self._node(app).resource for app in _targets(content)]

    def alone(self, approvals: Sequence[Approval]) -> bool:
        """Whether the parent apps among these need nobody beside them for a low risk."""
        return all(self._find(one.approver.subject).alone for one in approvals if one.statement)

    def ask(
        self, approval: Approval, proposal: Proposal, apps: Sequence[Resource], counts: Counts, at: float
    ) -> Question:
        """May the parent app decide this, by how its children are at the moment `at`, whatever time its statement names?
        Those that are being changed already were well when that was begun."""
        action, caller = ACTIONS[approval.verdict], parent_caller(approval.approver.subject)
        unbroken = proposal.model_copy(update={"approvals": ()})
        contexts = tuple(
            (
                *counts.context(action, proposal, app.id, caller.key, at),
                *(self._look(proposal, app.id) if action is Action.PROPOSAL_APPROVE_WITHIN else ()),
            )
            for app in apps
        )
        return Question(caller, action, proposal_resources(unbroken, apps), contexts, at)

    def _look(self, proposal: Proposal, app: str) -> tuple[tuple[str, Attribute], ...]:
        changes = proposal.content.changes
        begun = any(
            step.state is not StepState.PENDING
            for change, step in zip(changes, proposal.steps, strict=False)
            if change.target.app == app
        )
        node = self._node(app)
        healthy = node.app.health is Health.HEALTHY and not node.app.failing and not node.app.deleting_since
        proven = all(is_proven(one, node, self._tree, self._ladder) for one in changes_of(changes, app))
        return ("healthy", begun or healthy), ("kinds", kinds_of(changes, app)), ("proven", begun or proven)

    def _keys(self, app: str, settings: ParentSettings) -> Keys:
        try:
            if settings.annotation:
                return parse_keys(self._node(app).app.parent_jwks, f"{app}: arborgate.dev/parent-jwks")
            return self._inline[settings.app] if settings.jwks is not None else self._files[settings.app].read()
        except BadConfiguration as error:
            log.warning("the keys of the parent app %s can't be read: %s", app, error.message)
            raise Refused(f"The keys of {app} can't be read, so nothing that it signs counts.") from error

    def _find(self, app: str) -> ParentSettings:
        for listed, settings in self.listed():
            if listed == app:
                return settings
        raise Refused(f"{app[:200]} is not a parent app that the applier takes approvals from.")

    def _is_below(self, app: str, target: str) -> bool:
        return lies_below(self._tree, self._node(target), app)

    def _named(self, name: str) -> Sequence[Node]:
        return [each for each in self._tree.named(name) if each.app.id.cluster in self._clusters]

    def _node(self, app: str) -> Node:
        return require_fresh(self._tree, self._clusters, app)


def lies_below(tree: AppTree, node: Node, app: str) -> bool:
    """Whether an app lies below the one with this id, itself not: a parent does not move its own boundaries."""
    met: set[AppId] = set()
    above: Node | None = node
    while above is not None and above.parent is not None and above.parent not in met:
        if str(above.parent) == app:
            return True
        met.add(above.parent)
        above = tree.get(above.parent)
    return False


def _targets(content: Content) -> Sequence[str]:
    return tuple(dict.fromkeys(change.target.app for change in content.changes))
