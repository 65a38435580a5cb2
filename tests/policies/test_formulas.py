"""Formulas: what Cedar's ways of saying the same come down to, and what can hold together."""

import pytest

from arborgate.policies.formulas import Formula, read_policy
from arborgate.policies.loader import read_schema
from arborgate.policies.model import Action, ResourceType
from arborgate.policies.solver import Solver
from arborgate.policies.vocabulary import find_vocabulary
from arborgate.policies.wording import write_formula
from tests.policies.random_policies import read


def formula(condition: str) -> Formula:
    (statement,) = read(f'@id("x") permit (principal, action, resource) when {{ {condition} }};')
    return read_policy(statement.policy)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("context.login_age < 60", "context.login_age <= 59"),
        ("context.login_age <= 60", "context.login_age <= 60"),
        ("context.login_age > 60", "context.login_age > 60"),
        ("context.login_age >= 60", "context.login_age > 59"),
        ("60 < context.login_age", "context.login_age > 60"),
        ("60 <= context.login_age", "context.login_age > 59"),
        ("60 > context.login_age", "context.login_age <= 59"),
        ("60 >= context.login_age", "context.login_age <= 60"),
        ("context.login_age < -9223372036854775808", "false"),
        ("context.login_age <= 9223372036854775807", "true"),
        ("1 < 2 && 2 <= 2 && !(1 > 2) && 2 >= 2", "true"),
        ('"pages" == context.channel', 'context.channel == "pages"'),
        ('context.channel != "pages"', 'context.channel != "pages"'),
        ("context.strict == true", "context.strict"),
        ("context.strict != true", "!context.strict"),
        ("context.agent == context.agent", "true"),
        ("resource.requester == principal.key", "principal.key == resource.requester"),
        ('["a", "b"].contains(context.agent)', '["a", "b"].contains(context.agent)'),
        ('!["a", "b"].contains(context.agent)', '!["a", "b"].contains(context.agent)'),
        ('context.agent == "a" || context.agent == "b"', '["a", "b"].contains(context.agent)'),
        ('principal in [Role::"a", Role::"b"]', 'principal in [Role::"a", Role::"b"]'),
        ('!(principal in [Role::"a", Role::"b"])', '!(principal in [Role::"a", Role::"b"])'),
        ('context.actors.containsAny(["a"])', 'context.actors.contains("a")'),
        ('context.actors.containsAll(["a", "b"])', 'context.actors.contains("a") && context.actors.contains("b")'),
        ('["a"].containsAny(context.actors)', 'context.actors.contains("a")'),
        ('resource is App in App::"a"', 'resource is App && resource in App::"a"'),
        ("!(context.strict && context.bound)", "!context.strict || !context.bound"),
        ("if context.strict then context.bound else true", "(context.strict && context.bound) || !context.strict"),
        ("context.strict && !context.strict", "false"),
        ("context.strict || !context.strict", "true"),
        ('resource.name like "a*"', 'resource.name like "a*"'),
        ('!(resource.name like "a*")', '!(resource.name like "a*")'),
        ('context.agent == "a\\"\\n\\\\"', 'context.agent == "a\\"\\n\\\\"'),
    ],
)
def test_each_way_of_saying_it_comes_down_to_one(written: str, told: str) -> None:
    assert write_formula(formula(written)).replace("(resource.name)", "resource.name") == told


@pytest.mark.parametrize(
    ("condition", "possible"),
    [
        ('context.channel == "pages" && context.interactive', True),
        ('context.channel == "mcp" && context.interactive', False),
        ('context.channel != "mcp" && !context.interactive', True),
        (
            '!["applier", "mcp", "pages", "parent", "stdio", "terminal"].contains(context.channel)',
            False,
        ),
        ("context.login_age < 0", False),
        ("context.login_age > 9 && context.login_age < 11", True),
        ("context.login_age > 9 && context.login_age < 10", False),
        ('context.agent like "a*" && context.agent like "*b"', True),
        ('context.agent == "ab" && context.agent like "a*" && context.agent like "*b"', True),
        ('context.agent == "ab" && !(context.agent like "a*b")', False),
        ('resource in App::"a" && resource in App::"b"', True),
        ('resource == App::"a" && resource in App::"b"', True),
        ('resource == App::"a" && !(resource in App::"a")', False),
        ("resource is App && resource is Workload", False),
        ("resource is Keyspace", False),
        ("resource has labels && resource is Workload", False),
        ("resource has labels && resource is App", True),
        ('principal == Person::"a" && principal in Role::"r"', True),
        ('principal == Person::"a" && principal == Person::"b"', False),
    ],
)
def test_what_can_hold_together_is_told_from_what_can_not(condition: str, possible: bool) -> None:
    solver = Solver(find_vocabulary(read_schema()), Action.ROLLOUT_PROPOSE)

    assert solver.types == (ResourceType.APP, ResourceType.WORKLOAD)
    assert solver.possible(formula(condition)) is possible


def test_what_is_too_hard_to_tell_counts_as_possible() -> None:
    """Ten pigeons do not fit into nine holes, which takes more tries than are made."""
    nests = {(pigeon, hole): f'context.actors.contains("{pigeon}-{hole}")' for pigeon in range(10) for hole in range(9)}
    conditions = [" || ".join(nests[pigeon, hole] for hole in range(9)) for pigeon in range(10)]
    conditions += [
        f"!{nests[one, hole]} || !{nests[other, hole]}"
        for hole in range(9)
        for one in range(10)
        for other in range(one)
    ]
    solver = Solver(find_vocabulary(read_schema()), Action.ROLLOUT_PROPOSE)

    assert solver.possible(*(formula(condition) for condition in conditions))
