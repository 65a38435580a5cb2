"""Random policies over everything that they can speak of, random callers, and a world to try them on."""

from dataclasses import replace
from pathlib import Path

import cedarpy
from hypothesis import strategies as st

from arborgate.policies.engine import LoadedPolicies
from arborgate.policies.loader import assemble, read_schema
from arborgate.policies.model import Action, Caller, Channel, Resource
from arborgate.policies.statements import Statement, read_statements
from arborgate.policies.world import Person, World

NOW = 2_000_000_000

RESOURCES = list(
    World.model_validate(
        {
            "environments": {"prod": {"strict": True}, "dev": {}},
            "apps": {
                "main/argocd/shop": {"environment": "prod", "labels": {"team": "shop"}},
                "main/argocd/toys": {"environment": "dev", "parent": "main/argocd/shop"},
                "main/argocd/lost": {},
            },
            "workloads": {"main/argocd/toys/Deployment/web": {"app": "main/argocd/toys"}},
            "keyspaces": {"main:shop:": {"app": "main/argocd/shop"}, "main:toys:": {"app": "main/argocd/toys"}},
            "proposals": {
                "high": {"app": "main/argocd/shop", "requester": "dana", "risk": "high"},
                "low": {"app": "main/argocd/toys", "requester": "vera", "factors": ["downgrade"]},
            },
        }
    )
    .resources()
    .values()
)

_ALWAYS_KNOWN = [
    "context.strict",
    "context.interactive",
    "context.itself",
    "context.bound",
    'context.agent == "copilot"',
    'context.agent like "co*"',
    "context.agent != context.channel",
    'context.channel == "pages"',
    '["mcp", "stdio"].contains(context.channel)',
    'context.actors.contains("bot")',
    'context.actors.containsAny(["bot", "copilot"])',
    'context.actors.containsAll(["bot", "copilot"])',
    'context.trust == "unknown"',
    'principal in Role::"viewer"',
    'principal in Role::"approver"',
    'principal in [Role::"viewer", Group::"staff"]',
    'principal.name == "vera"',
    'principal.name like "d*"',
    'principal == Person::"https://issuer.example#dana"',
    "principal is Person",
    'resource in App::"main/argocd/shop"',
    'resource in [App::"main/argocd/toys", Environment::"prod"]',
    'resource in Installation::"arborgate"',
    "resource is App",
    'resource is Keyspace in App::"main/argocd/shop"',
    'resource == App::"main/argocd/toys"',
    'resource != Keyspace::"main:toys:"',
    "(resource has requester && resource.requester == principal.key)",
    '(resource has risk && resource.risk == "high")',
    '(resource has labels && resource.labels.contains("team=shop"))',
    '(resource has name && resource.name like "*o*")',
    '(if context.strict then context.bound else principal in Role::"developer")',
]
_KNOWN_OF_LOGINS = [
    "context.login_age < 900",
    "context.login_age >= 300",
    "900 >= context.login_age",
    "context.login_age == 60",
    "context.calendar.frozen",
    'context.acr == "phr"',
    '["phr", "phrh"].contains(context.acr)',
]

ACTIONS = (Action.APP_LIST, Action.APP_READ, Action.REDIS_READ_VALUE, Action.PROPOSAL_APPROVE, Action.PROPOSAL_WITHDRAW)

_SCOPES = [
    ("action", _ALWAYS_KNOWN),
    ('action in Action::"read"', _ALWAYS_KNOWN),
    ('action in [Action::"app:read", Action::"redis:read_value"]', _ALWAYS_KNOWN),
    ('action == Action::"proposal:approve"', _ALWAYS_KNOWN + _KNOWN_OF_LOGINS),
    ('action in [Action::"approve", Action::"propose"]', _ALWAYS_KNOWN + _KNOWN_OF_LOGINS),
]


def _conditions(known: list[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        st.sampled_from(known),
        lambda inner: st.one_of(
            inner.map(lambda one: f"!({one})"),
            st.tuples(inner, inner).map(lambda two: f"({two[0]} && {two[1]})"),
            st.tuples(inner, inner).map(lambda two: f"({two[0]} || {two[1]})"),
        ),
        max_leaves=4,
    )


@st.composite
def _policies(draw: st.DrawFn) -> str:
    effect = draw(st.sampled_from(["permit", "permit", "forbid"]))
    principal = draw(st.sampled_from(["principal", 'principal in Role::"viewer"', 'principal in Role::"developer"']))
    action, known = draw(st.sampled_from(_SCOPES))
    resource = draw(st.sampled_from(["resource", "resource", "resource is App", 'resource in App::"main/argocd/shop"']))
    clauses = draw(st.lists(st.tuples(st.sampled_from(["when", "unless"]), _conditions(known)), max_size=2))
    written = " ".join(f"{kind} {{ {condition} }}" for kind, condition in clauses)
    return f"{effect} ({principal}, {action}, {resource}) {written};"


def read(text: str) -> list[Statement]:
    return read_statements(Path("random.cedar"), text)


@st.composite
def policy_texts(draw: st.DrawFn) -> str:
    """The text of a few policies that the schema accepts."""
    fitting = _policies().filter(lambda text: cedarpy.validate_policies(text, read_schema()).validation_passed)
    texts = draw(st.lists(fitting, min_size=1, max_size=6))
    return "\n".join(f'@id("p{number}")\n{text}' for number, text in enumerate(texts))


def policy_sets() -> st.SearchStrategy[LoadedPolicies]:
    return policy_texts().map(lambda text: assemble(read(text)))


def callers() -> st.SearchStrategy[Caller]:
    roles = st.frozensets(st.sampled_from(["viewer", "developer", "approver"]), max_size=2)
    places = st.dictionaries(
        st.sampled_from(["viewer", "developer", "approver"]),
        st.lists(st.sampled_from(["main/argocd/shop", "main/argocd/toys"]), min_size=1, max_size=2).map(tuple),
        max_size=2,
    )
    people = st.builds(
        Person,
        roles=roles,
        grants=places,
        groups=st.frozensets(st.sampled_from(["staff"]), max_size=1),
        agent=st.sampled_from(["", "copilot", "bot"]),
        actors=st.sampled_from([(), ("bot",), ("copilot", "bot")]),
        channel=st.sampled_from(Channel),
        itself=st.booleans(),
        login_age=st.sampled_from([0, 60, 300, 899, 900, 901, None]),
        acr=st.sampled_from(["", "phr"]),
    )
    found = st.tuples(people, st.sampled_from(["vera", "dana"])).map(lambda both: both[0].caller(both[1], NOW))
    return st.tuples(found, st.sampled_from(["", "", "main/argocd/shop"])).map(
        lambda both: replace(both[0], within=both[1])
    )


def resources() -> st.SearchStrategy[Resource]:
    return st.sampled_from(RESOURCES)
