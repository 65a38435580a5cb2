"""Near misses: which conditions of a policy hold, and which parts of them settle it, as Cedar has it."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arborgate.policies.engine import Engine, LoadedPolicies
from arborgate.policies.loader import assemble
from arborgate.policies.model import Action, Basis, Caller, Question, Resource
from arborgate.policies.nearness import Weighed, find_attributes, find_nearest, weigh
from tests.policies.random_policies import ACTIONS, NOW, RESOURCES, callers, policy_sets, read, resources
from tests.policies.writing import app, environment, keyspace, load_alone, person

PROD, DEV = environment("prod", strict=True), environment("dev", strict=False)
SHOP, TOYS = app("shop", PROD, labels=("tier=web",)), app("toys", DEV)


def weigh_one(to: Path, policy: str, caller: Caller, resource: Resource, action: Action = Action.APP_READ) -> Weighed:
    loaded = load_alone(to, f'@id("p")\n{policy}')
    (weighed,) = weigh(Engine(loaded), Question(caller, action, (resource,), at=NOW))
    return weighed


def told(weighed: Weighed, *, unmet: bool = True) -> list[tuple[str, str, bool | None, tuple[str, ...]]]:
    """Of each part that settled a condition: of which kind, the text under the carets, whether it holds, what it saw."""
    found = []
    for condition in weighed.unmet if unmet else weighed.conditions:
        for part in condition.parts:
            start = part.passage.location.column - 1
            text = part.passage.line[start : start + part.passage.width]
            found.append((condition.kind, text, part.holds, part.seen))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(policy_sets(), callers(), st.sampled_from(ACTIONS), resources())
def test_a_policy_applies_by_its_conditions_exactly_where_it_decides(
    loaded: LoadedPolicies, caller: Caller, action: Action, resource: Resource
) -> None:
    engine = Engine(loaded)
    decision = engine.decide(caller, action, resource, at=NOW)
    if decision.basis is Basis.ERROR or {*decision.policies} - {*loaded.statements}:
        return  # what is denied before policies are asked, or fails as a whole, hangs on none of them

    weighed = weigh(engine, Question(caller, action, (resource,), at=NOW))

    forbids = sorted(each.statement.id for each in weighed if each.applies and not each.permits)
    permits = sorted(each.statement.id for each in weighed if each.applies and each.permits)
    assert list(decision.policies) == (forbids or permits)
    assert all(each.parts for one in weighed for each in one.conditions)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("unless { context.strict }", [("unless", "context.strict", True, ("context.strict is true",))]),
        (
            'when { context.bound || resource.project == "x" }',
            [
                ("when", "context.bound", False, ("context.bound is false",)),
                ("when", 'resource.project == "x"', False, ('resource.project is "default"',)),
            ],
        ),
        ("when { context.strict && context.bound }", [("when", "context.bound", False, ("context.bound is false",))]),
        (
            'when { context.bound && resource.name == "shop" }',
            [("when", "context.bound", False, ("context.bound is false",))],
        ),
        (
            "unless { context.strict && !context.bound }",
            [
                ("unless", "context.strict", True, ("context.strict is true",)),
                ("unless", "context.bound", False, ("context.bound is false",)),
            ],
        ),
        (
            "unless { context.strict || context.bound }",
            [("unless", "context.strict", True, ("context.strict is true",))],
        ),
        (
            'when { resource.labels.contains("tier=db") }',
            [("when", 'resource.labels.contains("tier=db"', False, ('resource.labels is ["tier=web"]',))],
        ),
        ('when { principal in Role::"auditor" }', [("when", 'principal in Role::"auditor"', False, ())]),
    ],
)
def test_the_smallest_parts_that_settle_a_condition_are_named(
    tmp_path: Path, condition: str, expected: list[object]
) -> None:
    policy = f'permit (principal, action == Action::"app:read", resource is App) {condition};'

    assert told(weigh_one(tmp_path, policy, person(), SHOP)) == expected


def test_a_scope_that_speaks_of_others_is_named(tmp_path: Path) -> None:
    policy = 'permit (principal in Role::"auditor", action, resource in Environment::"dev");'

    assert told(weigh_one(tmp_path, policy, person(), SHOP)) == [
        ("principal", 'principal in Role::"auditor"', False, ()),
        ("resource", 'resource in Environment::"dev"', False, ()),
    ]


def test_what_made_a_forbid_apply_is_named(tmp_path: Path) -> None:
    policy = """forbid (principal, action == Action::"proposal:approve", resource)
    when { (context.strict || resource.risk == "high") && context.login_age > 900 };"""
    high = next(each for each in RESOURCES if each.id == "high")
    caller = person()

    weighed = weigh_one(tmp_path, policy, caller, high, Action.PROPOSAL_APPROVE)

    assert weighed.applies
    assert told(weighed, unmet=False) == [
        ("when", "context.strict", True, ("context.strict is true",)),
        ("when", "context.login_age > 900", True, ("context.login_age is not known, so 9007199254740992",)),
    ]


def test_the_nearest_permit_comes_first_and_a_foreign_scope_is_further_off(tmp_path: Path) -> None:
    loaded = load_alone(
        tmp_path,
        """
        @id("two") permit (principal, action, resource) when { context.bound } when { context.itself };
        @id("scope") permit (principal in Role::"auditor", action, resource);
        @id("one") permit (principal, action, resource) unless { context.strict };
        @id("other-action") permit (principal, action == Action::"app:list", resource);
        @id("forbid") forbid (principal, action, resource) when { context.itself };
        """,
    )
    weighed = weigh(Engine(loaded), Question(person(), Action.APP_READ, (SHOP,), at=NOW))

    assert [each.statement.id for each in find_nearest(weighed)] == ["one", "scope", "two"]
    assert [each.statement.id for each in find_nearest(weighed, most=1)] == ["one"]


def test_of_several_resources_the_one_that_is_denied_is_looked_at(tmp_path: Path) -> None:
    loaded = load_alone(tmp_path, '@id("p") permit (principal, action, resource) unless { context.strict };')
    weighed = weigh(Engine(loaded), Question(person(), Action.APP_READ, (TOYS, SHOP), at=NOW))

    assert [each.resource for each in weighed] == [SHOP]


def test_a_condition_that_fails_says_so(tmp_path: Path) -> None:
    loaded = assemble(
        read(
            '@id("p")\npermit (principal, action == Action::"redis:read_value", resource) when { resource.owner == "x" };'
        )
    )
    (weighed,) = weigh(Engine(loaded), Question(person(), Action.REDIS_READ_VALUE, (keyspace(TOYS),), at=NOW))

    assert told(weighed) == [("when", 'resource.owner == "x"', None, ())]


def test_the_attributes_that_policies_read_are_found() -> None:
    statements = read(
        """permit (principal, action, resource) when { resource has labels && (if context.strict then true else
        principal.name like "x*") } unless { ["a"].contains(resource.project) };"""
    )

    assert find_attributes(statements) == {"labels", "strict", "name", "project"}
