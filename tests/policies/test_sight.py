"""What policies can see of a resource: whatever the policies and the world, sharing decisions changes no answer."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arborgate.policies.engine import Engine
from arborgate.policies.errors import BadConfiguration
from arborgate.policies.loader import SCHEMA, read_policies
from arborgate.policies.model import INSTALLATION, Action, Caller, Resource
from arborgate.policies.sight import Equals, Exceeds, Exists, Holds, Matches, Reading, Sight, find_sight
from tests.policies.writing import app, environment, keyspace, load_alone, person, write_policies

SCOPES = st.sampled_from(
    [
        "resource",
        "resource is App",
        "resource is Keyspace",
        'resource == App::"main/argocd/b"',
        'resource in App::"main/argocd/a"',
        'resource in Environment::"prod"',
        'resource is App in App::"main/argocd/a"',
        'resource in Installation::"arborgate"',
    ]
)
CONDITIONS = st.sampled_from(
    [
        'when { resource has name && resource.name == "b" }',
        'when { resource has labels && resource.labels.contains("tier=web") }',
        'unless { resource has labels && resource.labels.containsAny(["tier=web", "tier=db"]) }',
        'when { resource has prefix && resource.prefix like "sh*" }',
        'when { resource in [App::"main/argocd/a", App::"main/argocd/c"] }',
        'unless { resource == App::"main/argocd/a" }',
        'when { App::"main/argocd/b" != resource }',
        "when { resource is Keyspace }",
        'when { resource is App in Environment::"dev" }',
        "when { context.strict }",
        "when { if resource is App then context.strict else true }",
        "when { [resource] == [resource] }",
        'when { principal == Person::"https://issuer.example#vera" }',
        "",
    ]
)
ACTIONS = st.sampled_from(
    ['action in [Action::"app:read", Action::"redis:read"]', 'action in Action::"read"', "action"]
)


@st.composite
def policy_sets(draw: st.DrawFn) -> str:
    count = draw(st.integers(1, 5))
    return "\n".join(
        f'@id("p{number}") {draw(st.sampled_from(["permit", "permit", "forbid"]))} '
        f"(principal, {draw(ACTIONS)}, {draw(SCOPES)}) {draw(CONDITIONS)};"
        for number in range(count)
    )


@st.composite
def worlds(draw: st.DrawFn) -> list[Resource]:
    environments = [environment("prod", draw(st.booleans())), environment("dev", draw(st.booleans()))]
    apps: list[Resource] = []
    for name in draw(st.permutations(["a", "b", "c", "d"])):
        above = [*draw(st.sets(st.sampled_from(apps), max_size=2))] if apps else []
        inside = draw(st.lists(st.sampled_from(environments), max_size=1))
        labels = draw(st.sampled_from([(), ("tier=web",), ("tier=db", "x=y")]))
        apps.append(app(name, *above, *inside, labels=labels))
    return [*apps, *(keyspace(draw(st.sampled_from(apps)), prefix) for prefix in ("shop:", "bank:"))]


def decide_plainly(policies: str, caller: Caller, action: Action, resource: Resource) -> tuple[bool, tuple[str, ...]]:
    """Cedar on everything there is, with nothing shared, cut or remembered."""
    environment_strict = find_strict([resource])
    entities = {entity["uid"]["id"]: entity for entity in entities_of(resource)}
    answer = cedarpy.is_authorized(
        {
            "principal": {"type": "Person", "id": caller.key},
            "action": {"type": "Action", "id": str(action)},
            "resource": {"type": str(resource.type), "id": resource.id},
            "context": {
                "actors": list(caller.actors),
                "agent": caller.agent,
                "bound": caller.binding.bound,
                "channel": str(caller.channel),
                "interactive": False,
                "trust": "unknown",
                "itself": caller.itself,
                "strict": environment_strict,
            },
        },
        policies,
        [
            *entities.values(),
            {
                "uid": {"type": "Person", "id": caller.key},
                "attrs": {"key": caller.key, "issuer": caller.issuer, "name": caller.name},
                "parents": [{"type": "Role", "id": role} for role in caller.roles],
            },
        ],
        SCHEMA.read_text(),
    )
    assert not answer.diagnostics.errors
    names = answer.diagnostics.id_annotations_by_reason
    return answer.allowed, tuple(sorted(names[reason] for reason in answer.diagnostics.reasons))


def find_strict(level: list[Resource]) -> bool:
    """By level: the first that has environments says it."""
    if not level:
        return True
    found = [dict(resource.attributes)["strict"] is True for resource in level if resource.type == "Environment"]
    return any(found) if found else find_strict([parent for resource in level for parent in resource.parents])


def entities_of(resource: Resource) -> Iterator[dict[str, dict[str, str]]]:
    shape = {
        "uid": {"type": str(resource.type), "id": resource.id},
        "attrs": {name: list(value) if isinstance(value, tuple) else value for name, value in resource.attributes},
        "parents": [
            {"type": str(parent.type), "id": parent.id} for parent in resource.parents if parent.type != "Installation"
        ]
        if resource.type != "Environment"
        else [{"type": "Installation", "id": INSTALLATION.id}],
    }
    yield json.loads(json.dumps(shape))
    for parent in resource.parents:
        if parent.type != "Installation":
            yield from entities_of(parent)


@settings(max_examples=60, deadline=None)
@given(policies=policy_sets(), resources=worlds())
def test_sharing_decisions_changes_no_answer(policies: str, resources: list[Resource]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_alone(Path(folder), policies)
    sharing = Engine(loaded)
    vera = person("vera", "viewer")
    plain = [decide_plainly(policies, vera, action_of(resource), resource) for resource in resources]

    decided = [sharing.decide(vera, action_of(resource), resource) for resource in resources]
    apps = [resource for resource in resources if resource.type == "App"]

    assert [(decision.allowed, decision.policies) for decision in decided] == plain
    assert sharing.visible(vera, Action.APP_READ, apps) == [
        allowed for (allowed, _), resource in zip(plain, resources, strict=True) if resource.type == "App"
    ]
    for (allowed, _), resource in zip(plain, resources, strict=True):
        assert not allowed or sharing.could(vera, action_of(resource))


def action_of(resource: Resource) -> Action:
    return Action.APP_READ if resource.type == "App" else Action.REDIS_READ


def sight_of(condition: str) -> Sight:
    text = f'permit (principal, action == Action::"app:read", resource is App) {condition};'
    (policy,) = cedarpy.policies_to_pst(text).static_policies.values()
    return find_sight(policy)


@pytest.mark.parametrize(
    ("condition", "readings"),
    [
        ('when { resource.labels.contains("a=b") }', {Reading("resource", "labels", Holds("a=b"))}),
        ('unless { "x" != resource.project }', {Reading("resource", "project", Equals("x"))}),
        ("when { 9 < context.login_age }", {Reading("context", "login_age", Exceeds(9))}),
        ('when { principal.name like "a*b" }', {Reading("principal", "name", Matches(("a", "b")))}),
        ("when { resource has labels }", {Reading("resource", "labels", Exists())}),
        ("when { context.strict }", {Reading("context", "strict")}),
        ("when { context.calendar.frozen }", {Reading("context", "calendar")}),
        (
            "when { resource.name == principal.key }",
            {Reading("resource", "name"), Reading("principal", "key")},
        ),
        (
            'when { resource.labels.containsAll(["a=b", "c=d"]) && resource.labels.isEmpty() }',
            {
                Reading("resource", "labels", Holds("a=b")),
                Reading("resource", "labels", Holds("c=d")),
                Reading("resource", "labels"),
            },
        ),
        (
            'when { resource.labels.containsAny(["a=b", context.agent]) }',
            {Reading("resource", "labels"), Reading("context", "agent")},
        ),
    ],
)
def test_a_policy_reads_attributes_for_what_it_tests_them_for(condition: str, readings: set[Reading]) -> None:
    assert sight_of(condition) == Sight(readings=frozenset(readings))


def test_a_policy_sees_the_entities_it_compares_with() -> None:
    sight = sight_of('when { resource in [App::"a/b/c"] || resource in Environment::"dev" }')

    assert sight.named == {("App", "a/b/c"), ("Environment", "dev")}
    assert not sight.whole


@pytest.mark.parametrize(
    ("condition", "whole"),
    [
        ("when { [resource] == [resource] }", {"resource"}),
        ("when { [principal].contains(principal) }", {"principal"}),
        ("when { {a: context} == {a: context} }", {"context"}),
        ("when { resource in principal }", {"principal", "resource"}),
    ],
)
def test_what_is_used_in_another_way_is_seen_whole(condition: str, whole: set[str]) -> None:
    assert sight_of(condition).whole == whole


@pytest.mark.parametrize(
    "condition",
    [
        'when { Environment::"prod".strict }',
        'when { App::"a/b/c" in Environment::"prod" }',
        'when { (if context.strict then App::"a/b/c" else App::"d/e/f").name == "x" }',
    ],
)
def test_a_policy_that_looks_into_an_entity_it_names_is_refused(condition: str, tmp_path: Path) -> None:
    policy = f'@id("p") permit (principal, action == Action::"app:read", resource is App) {condition};'
    with pytest.raises(BadConfiguration, match=r"only\.cedar:1:\d+: .* only who asks and what is asked of are known"):
        read_policies(write_policies(tmp_path, policy))
