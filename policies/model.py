"""The words of a decision: who asks, what for, on what, and the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

Scalar = str | int | bool
Attribute = Scalar | tuple[str, ...]
"""What an attribute or a context value may be: Cedar's String, Long, Bool and Set<String>."""


class Action(StrEnum):
    """Everything that can be asked, `<thing>:<verb>`. Each belongs to one `ActionGroup` in the schema."""

    APP_LIST = "app:list"
    APP_READ = "app:read"
    CALLER_READ = "caller:read"
    PERSONAL_READ = "personal:read"
    POLICY_READ = "policy:read"
    PROPOSAL_APPLY = "proposal:apply"
    PROPOSAL_APPROVE = "proposal:approve"
    PROPOSAL_APPROVE_WITHIN = "proposal:approve_within"
    PROPOSAL_BREAK_GLASS = "proposal:break_glass"
    PROPOSAL_LIST = "proposal:list"
    PROPOSAL_READ = "proposal:read"
    PROPOSAL_REJECT = "proposal:reject"
    PROPOSAL_REJECT_WITHIN = "proposal:reject_within"
    PROPOSAL_REVIEW = "proposal:review"
    PROPOSAL_STEER = "proposal:steer"
    PROPOSAL_WITHDRAW = "proposal:withdraw"
    RECORD_SEARCH = "record:search"
    RECORD_SEARCH_ALL = "record:search_all"
    REDIS_LIST = "redis:list"
    REDIS_READ = "redis:read"
    REDIS_READ_VALUE = "redis:read_value"
    ROLLOUT_PROPOSE = "rollout:propose"
    TOKEN_EXCHANGE = "token:exchange"  # noqa: S105  # an action, no password

    @property
    def group(self) -> ActionGroup:
        return _GROUPS[self]

    @property
    def hides(self) -> bool:
        """Whether a denial must look like "not there": true for every way of reading."""
        return self.group in (ActionGroup.READ, ActionGroup.READ_SENSITIVE)


class ActionGroup(StrEnum):
    """The groups that policies grant: `action in Action::"read"`."""

    APPLY = "apply"
    APPROVE = "approve"
    DELEGATE = "delegate"
    PROPOSE = "propose"
    READ = "read"
    READ_SENSITIVE = "read_sensitive"


_GROUPS: Mapping[Action, ActionGroup] = {
    Action.APP_LIST: ActionGroup.READ,
    Action.APP_READ: ActionGroup.READ,
    Action.CALLER_READ: ActionGroup.READ,
    Action.PERSONAL_READ: ActionGroup.READ_SENSITIVE,
    Action.POLICY_READ: ActionGroup.READ_SENSITIVE,
    Action.PROPOSAL_APPLY: ActionGroup.APPLY,
    Action.PROPOSAL_APPROVE: ActionGroup.APPROVE,
    Action.PROPOSAL_APPROVE_WITHIN: ActionGroup.APPROVE,
    Action.PROPOSAL_BREAK_GLASS: ActionGroup.APPROVE,
    Action.PROPOSAL_LIST: ActionGroup.READ,
    Action.PROPOSAL_READ: ActionGroup.READ,
    Action.PROPOSAL_REJECT: ActionGroup.APPROVE,
    Action.PROPOSAL_REJECT_WITHIN: ActionGroup.APPROVE,
    Action.PROPOSAL_REVIEW: ActionGroup.APPROVE,
    Action.PROPOSAL_STEER: ActionGroup.PROPOSE,
    Action.PROPOSAL_WITHDRAW: ActionGroup.PROPOSE,
    Action.RECORD_SEARCH: ActionGroup.READ,
    Action.RECORD_SEARCH_ALL: ActionGroup.READ_SENSITIVE,
    Action.REDIS_LIST: ActionGroup.READ,
    Action.REDIS_READ: ActionGroup.READ,
    Action.REDIS_READ_VALUE: ActionGroup.READ_SENSITIVE,
    Action.ROLLOUT_PROPOSE: ActionGroup.PROPOSE,
    Action.TOKEN_EXCHANGE: ActionGroup.DELEGATE,
}


COUNTED: Mapping[Action, tuple[str, ...]] = {
    Action.PROPOSAL_APPLY: ("applied_today", "approvals", "signed_approvals"),
    Action.PROPOSAL_APPROVE: ("applied_today", "signed"),
    Action.PROPOSAL_APPROVE_WITHIN: ("applied_today", "healthy", "kinds", "proven"),
    Action.PROPOSAL_BREAK_GLASS: ("applied_today", "signed", "unreviewed"),
}
"""What the context of an action says that whoever asks has to find out: what nobody counted is very large, and of what
nobody looked at the engine takes the worst (`UNTOLD` in context.py)."""


class Channel(StrEnum):
    """The door a call came through. Only `pages` and `terminal` are interactive: a person is there. `parent` is what the
    controller of a parent app has signed: the applier alone opens it."""

    APPLIER = "applier"
    MCP = "mcp"
    PAGES = "pages"
    PARENT = "parent"
    STDIO = "stdio"
    TERMINAL = "terminal"


class AgentTrust(StrEnum):
    """What the platform team thinks of the agents that a call comes through: of all of them, so the worst counts.
    `none`: there is no agent, a person is there."""

    FORBIDDEN = "forbidden"
    NONE = "none"
    TRUSTED = "trusted"
    UNKNOWN = "unknown"


class Binding(StrEnum):
    """What ties a caller's credential to who presents it; with `bearer` whoever holds it can use it."""

    BEARER = "bearer"
    DPOP = "dpop"
    LOCAL = "local"
    MTLS = "mtls"
    SESSION = "session"

    @property
    def bound(self) -> bool:
        return self is not Binding.BEARER


@dataclass(frozen=True, slots=True)
class Caller:
    """A person, the groups they are in, and the agent acting for them; or an app acting for itself.

    `issuer` and `subject` identify the person (OpenID Connect Core section 2); `name` is only for showing. `agent` is
    the OAuth `client_id` (or `azp`), `actors` the chain of RFC 8693 `act` claims, the current actor first; `itself`
    says that there is no person: an app or agent acts for itself. `grants` are roles at one app and below it, pairs of
    role and app id. `authenticated_at` is `auth_time` in seconds since the epoch, 0 where the provider does not say,
    `acr` how the person logged in. `within` is the id of the one app that the credential is good for, "" for all;
    `withheld` the groups of actions that its scope leaves out, each with the scope that would do.
    """

    issuer: str
    subject: str
    name: str
    groups: frozenset[str]
    roles: frozenset[str]
    agent: str
    channel: Channel
    actors: tuple[str, ...] = ()
    authenticated_at: int = 0
    session: str = ""
    itself: bool = False
    binding: Binding = Binding.BEARER
    acr: str = ""
    grants: frozenset[tuple[str, str]] = frozenset()
    within: str = ""
    withheld: tuple[tuple[ActionGroup, str], ...] = ()

    @property
    def key(self) -> str:
        """What identifies the person everywhere: in Cedar, in records, in "the requester never approves"."""
        return f"{self.issuer}#{self.subject}"

    @property
    def alone(self) -> Caller:
        """The same person with nobody between: on the pages, with all that a token can leave out."""
        return replace(
            self,
            agent="",
            actors=(),
            channel=Channel.PAGES,
            itself=False,
            binding=Binding.SESSION,
            within="",
            withheld=(),
        )


class ResourceType(StrEnum):
    """What can be asked about: the entity types of the schema."""

    APP = "App"
    ENVIRONMENT = "Environment"
    INSTALLATION = "Installation"
    KEYSPACE = "Keyspace"
    PROPOSAL = "Proposal"
    WORKLOAD = "Workload"


@dataclass(frozen=True, slots=True)
class Resource:
    """What is asked of, with its place in the tree: `parents` are whole resources, up to the installation.

    `attributes` is a sorted tuple of pairs, so that a resource can be compared, hashed and shared between calls.
    """

    type: ResourceType
    id: str
    parents: tuple[Resource, ...] = ()
    attributes: tuple[tuple[str, Attribute], ...] = ()

    @property
    def uid(self) -> str:
        return f"{self.type}::{self.id}"


INSTALLATION = Resource(ResourceType.INSTALLATION, "arborgate")
"""The root of all resources: what lists, searches and `whoami` are asked of."""


class Basis(StrEnum):
    """What a decision rests on."""

    ERROR = "error"
    FORBID = "forbid"
    NO_PERMIT = "no_permit"
    PERMIT = "permit"


@dataclass(frozen=True, slots=True)
class Decision:
    """Allow or deny, with the ids (`@id`) of the policies that determined it. `error` is for operators alone."""

    allowed: bool
    basis: Basis
    policies: tuple[str, ...] = ()
    error: str = ""


OUTSIDE = Decision(False, Basis.FORBID, ("token-is-for-one-app",))
"""The answer to a caller whose credential is for one app, about anything that is not that app's; no policy changes it."""

NO_SCOPE = Decision(False, Basis.FORBID, ("token-lacks-scope",))
"""The answer to a caller whose credential's scope leaves the action out; no policy changes it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the engine: may the caller do this, on every one of these resources? `contexts` has for each
    resource, or for none, what is added to what the engine derives (agent, channel, …); `at` is the moment that logins and
    the calendar are judged by, in seconds since the epoch."""

    caller: Caller
    action: Action
    resources: tuple[Resource, ...]
    contexts: tuple[tuple[tuple[str, Attribute], ...], ...] = ()
    at: float = 0.0

    def each(self) -> Iterator[tuple[Resource, tuple[tuple[str, Attribute], ...]]]:
        """The resources, each with its context."""
        return zip(self.resources, self.contexts or ((),) * len(self.resources), strict=True)
