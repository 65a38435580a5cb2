"""Lint: what it finds, where, and that what it says of several policies is so for every question."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from arborgate.policies.engine import Engine
from arborgate.policies.findings import LEVELS, Level, Rule
from arborgate.policies.lint import lint
from arborgate.policies.loader import assemble, read_folder
from arborgate.policies.model import Action, Caller
from arborgate.policies.plain_reading import Known
from arborgate.policies.statements import Statement
from arborgate.policies.vocabulary import CONTAINED, WORDS
from arborgate.tools.risk import Factor, Risk
from tests.policies.random_policies import ACTIONS, NOW, RESOURCES, callers, policy_texts, read

RANDOM = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def found(text: str, known: Known = Known()) -> list[tuple[Rule, str, str]]:  # noqa: B008  # a constant
    """What is found: the rule, where, and the text that it is about."""
    return [
        (
            finding.rule,
            f"{finding.passage.location.line}:{finding.passage.location.column}",
            finding.passage.line[finding.passage.location.column - 1 :][: finding.passage.width],
        )
        for finding in lint(read(text), known)
    ]


def problems(text: str, known: Known = Known()) -> list[str]:  # noqa: B008  # a constant
    return [finding.problem for finding in lint(read(text), known)]


VIEW = (
    '@id("view")\npermit (principal in Role::"viewer", action in [Action::"app:read", Action::"app:list"], resource);\n'
)
LOOK = '@id("look")\npermit (principal in Role::"viewer", action == Action::"app:read", resource is App)\n'


def test_nothing_is_found_in_policies_that_need_each_word() -> None:
    assert found(VIEW) == []


def test_a_permit_that_another_gives_already_is_shadowed_by_it() -> None:
    told = found(f"{VIEW}{LOOK}when {{ context.strict }};")

    assert told == [(Rule.SHADOWED, "3:1", '@id("look")')]
    assert problems(f"{VIEW}{LOOK};") == ["view at random.cedar:1:1 permits all of this, and more"]


def test_of_two_that_say_the_same_the_later_is_told() -> None:
    twin = LOOK.replace("look", "twin")

    assert problems(f"{LOOK};\n{twin};") == ["look at random.cedar:1:1 permits just this"]


def test_a_permit_that_two_others_give_together_is_shadowed_by_both() -> None:
    anywhere = LOOK.replace(" is App", "")
    strict = anywhere.replace("look", "s") + "when { context.strict };\n"
    free = anywhere.replace("look", "f") + "unless { context.strict };\n"

    assert problems(f"{strict}{free}{LOOK};") == ["s and f together permit all of this"]


def test_a_forbid_is_shadowed_by_a_wider_forbid_and_not_by_a_permit() -> None:
    never = '@id("never")\nforbid (principal, action == Action::"app:read", resource);\n'
    here = '@id("here")\nforbid (principal, action == Action::"app:read", resource in App::"a/b/c");\n'

    assert problems(never + here) == ["never at random.cedar:1:1 forbids all of this, and more"]


def test_another_role_shadows_nothing() -> None:
    assert found(f"{VIEW}{LOOK.replace('viewer', 'auditor')};") == []


def test_a_permit_of_which_forbids_leave_nothing_is_told_with_them() -> None:
    text = (
        f"{LOOK}when {{ context.strict }};\n"
        '@id("a")\nforbid (principal, action, resource is App) when { context.bound };\n'
        '@id("b")\nforbid (principal, action, resource is App) unless { context.bound };\n'
    )

    assert (Rule.FORBIDDEN, "1:1", '@id("look")') in found(text)
    assert "all that this permits is forbidden by a and b" in problems(text)


@pytest.mark.parametrize(
    "condition",
    [
        'context.agent == "a" && context.agent == "b"',
        'context.interactive && context.channel == "mcp"',
        'resource is Environment && resource in App::"a/b/c"',
        'resource in Role::"viewer"',
        'principal in App::"a/b/c"',
        'principal == Person::"x" && principal.key == "y"',
        'context.agent == "bot" && context.agent like "co*"',
        'resource == App::"a/b/c" && resource == App::"d/e/f"',
        "context.bound && !context.bound",
        "resource has prefix",
    ],
)
def test_a_condition_that_can_never_hold_is_told_at_its_place(condition: str) -> None:
    text = f'@id("x")\npermit (principal in Role::"r", action == Action::"app:read", resource)\nwhen {{ {condition} }};'

    assert found(text) == [(Rule.NEVER, "3:1", f"when {{ {condition} }}")]


def test_numbers_that_leave_no_room_can_never_hold() -> None:
    text = (
        '@id("x")\npermit (principal in Role::"r", action == Action::"rollout:propose", resource)\n'
        "when { context.login_age < 60 }\nwhen { context.login_age > 59 };"
    )

    assert found(text) == [(Rule.NEVER, "1:1", '@id("x")')]
    assert found(text.replace("> 59", "> 58")) == []
    assert found(text.replace("< 60", "< 0")) == [(Rule.NEVER, "3:1", "when { context.login_age < 0 }")]


@pytest.mark.parametrize(
    ("policy", "place", "text"),
    [
        (
            (
                'permit (principal in Role::"r", action == Action::"app:read", resource)\n'
                'when { context.channel == "mcp" || context.channel != "mcp" };'
            ),
            "3:1",
            'when { context.channel == "mcp" || context.channel != "mcp" }',
        ),
        (
            (
                'permit (principal in Role::"r", action == Action::"app:read", resource)\n'
                'when { context.bound && (context.bound || context.agent == "a") };'
            ),
            "3:43",
            'context.agent == "a"',
        ),
        (
            (
                'permit (principal in Role::"r", action == Action::"redis:read_value", resource is Keyspace)\n'
                "unless { context.strict };"
            ),
            "2:71",
            "resource is Keyspace",
        ),
        (
            (
                'permit (principal in Role::"r", action == Action::"app:read", resource)\n'
                'when { principal in [Role::"r", Role::"q"] };'
            ),
            "3:1",
            'when { principal in [Role::"r", Role::"q"] }',
        ),
    ],
)
def test_what_makes_no_difference_is_told_at_its_place(policy: str, place: str, text: str) -> None:
    assert (Rule.REDUNDANT, place, text) in found(f'@id("x")\n{policy}')


def test_a_guard_that_the_schema_asks_for_makes_a_difference() -> None:
    text = (
        '@id("x")\npermit (principal in Role::"r", action == Action::"proposal:read", resource)\n'
        'when { resource has risk && resource.risk == "low" };'
    )

    assert found(text) == []


def test_a_listed_action_that_is_never_asked_of_such_a_resource_is_unreachable() -> None:
    text = (
        '@id("x")\npermit (principal in Role::"r", action in [Action::"app:read", Action::"redis:read"], resource)\n'
        "when { resource is Keyspace };"
    )

    assert found(text) == [(Rule.UNREACHABLE, "2:44", 'Action::"app:read"')]


def test_a_permit_for_anybody_and_for_all_actions_is_broad() -> None:
    assert [rule for rule, _, _ in found('@id("x") permit (principal, action, resource);')] == [
        Rule.ANYBODY,
        Rule.ALL_ACTIONS,
    ]
    assert found('@id("x") permit (principal, action == Action::"caller:read", resource);') == []


def test_a_permit_for_anybody_of_a_group_is_not_broad() -> None:
    text = '@id("x") permit (principal, action == Action::"app:read", resource) when { principal in Group::"g" };'

    assert found(text) == []


def test_sensitive_reading_and_approving_ask_for_a_thought_about_the_environment() -> None:
    give = '@id("x") permit (principal in Role::"r", action == Action::"redis:read_value", resource)'
    limit = '\n@id("y") forbid (principal, action, resource) when { context.strict && !context.bound };'

    assert [rule for rule, _, _ in found(f"{give};")] == [Rule.ANY_ENVIRONMENT]
    assert found(f"{give} unless {{ context.strict }};") == []
    assert found(f"{give};{limit}") == []


def test_an_exemption_by_the_name_of_an_agent_is_told_once() -> None:
    text = (
        '@id("x") forbid (principal, action in Action::"propose", resource)\n'
        'unless { ["copilot", "ide"].contains(context.agent) };'
    )

    assert found(text) == [(Rule.AGENT_BY_NAME, "2:11", '"copilot"')]
    assert found(text.replace("unless", "when")) == []


@pytest.mark.parametrize(
    ("condition", "word", "problem"),
    [
        ('context.channel == "page"', '"page"', 'context.channel is never "page"; did you mean "pages"?'),
        (
            '!["mcp", "studio"].contains(context.channel)',
            '"studio"',
            'context.channel is never "studio"; did you mean "stdio"?',
        ),
        ('context.trust != "trustd"', '"trustd"', 'context.trust is never "trustd"; did you mean "trusted"?'),
        ('resource.risk == "medium"', '"medium"', 'resource.risk is never "medium"; known: high, low'),
        (
            'resource.factors.contains("downgrad")',
            '"downgrad"',
            'resource.factors is never "downgrad"; did you mean "downgrade"?',
        ),
    ],
)
def test_a_word_that_a_field_never_holds_is_told_with_what_was_meant(condition: str, word: str, problem: str) -> None:
    approve = 'permit (principal in Role::"r", action == Action::"proposal:approve", resource)'
    text = f'@id("x")\n{approve}\nwhen {{ {condition} }};'

    (finding,) = (each for each in lint(read(text)) if each.rule is Rule.UNKNOWN_WORD)

    assert finding.problem == problem
    assert finding.passage.show().splitlines()[1].strip() == "^" * len(word)


def test_the_words_are_those_of_the_program() -> None:
    assert WORDS["resource.risk"] == set(Risk)
    assert CONTAINED["resource.factors"] == set(Factor)


KNOWN = Known(
    roles=frozenset({"viewer"}),
    groups=frozenset({"staff"}),
    environments=frozenset({"prod"}),
    agents=frozenset({"ide-*", "copilot"}),
)


@pytest.mark.parametrize(
    ("wrong", "right", "rule", "problem"),
    [
        (
            'principal in Role::"viewr"',
            'principal in Role::"viewer"',
            Rule.UNKNOWN_ROLE,
            'no group has the role "viewr" in the settings; did you mean "viewer"?',
        ),
        (
            'principal in Group::"stuff"',
            'principal in Group::"staff"',
            Rule.UNKNOWN_GROUP,
            'the settings name no group "stuff"; did you mean "staff"?',
        ),
        (
            'resource in Environment::"prd"',
            'resource in Environment::"prod"',
            Rule.UNKNOWN_ENVIRONMENT,
            'the settings have no environment "prd"; did you mean "prod"?',
        ),
        (
            'context.agent == "copilt"',
            'context.actors.contains("ide-7")',
            Rule.UNKNOWN_AGENT,
            'the settings name no agent "copilt"; did you mean "copilot"?',
        ),
    ],
)
def test_a_name_that_the_settings_do_not_know_is_told(wrong: str, right: str, rule: Rule, problem: str) -> None:
    text = '@id("x") permit (principal in Role::"viewer", action == Action::"app:read", resource) when { %s };'

    told = lint(read(text % wrong), KNOWN)

    assert [(finding.rule, finding.problem) for finding in told if finding.rule is not Rule.REDUNDANT] == [
        (rule, problem)
    ]
    assert not [finding for finding in lint(read(text % right), KNOWN) if finding.rule is not Rule.REDUNDANT]
    assert not [finding for finding in lint(read(text % wrong)) if finding.rule is rule]


def test_the_shipped_policies_have_no_errors_and_no_warnings() -> None:
    told = lint(read_folder(None).statements)

    assert [finding.tell() for finding in told if finding.level is not Level.NOTE] == []


def test_every_rule_has_a_level() -> None:
    assert LEVELS.keys() == set(Rule)


def applies(statements: list[Statement], caller: Caller) -> set[tuple[Action, str]]:
    """Where these policies, asked as they are, decide: permits permit, or forbids are what denies."""
    engine = Engine(assemble(statements))
    ids = {statement.id for statement in statements}
    return {
        (action, resource.uid)
        for action in ACTIONS
        for resource in RESOURCES
        if ids & set(engine.decide(caller, action, resource, at=NOW).policies)
    }


@RANDOM
@given(policy_texts(), st.lists(callers(), min_size=1, max_size=4))
def test_what_is_proven_holds_for_every_question(text: str, people: list[Caller]) -> None:
    statements = read(text)
    told = [finding for finding in lint(statements) if finding.rule in (Rule.NEVER, Rule.SHADOWED, Rule.FORBIDDEN)]
    assume(told)
    for finding in told:
        (policy,) = (each for each in statements if each.id == finding.policy)
        others = [each for each in statements if each is not policy]
        alike = [each for each in others if each.policy.effect == policy.policy.effect]
        for person in people:
            if finding.rule is Rule.NEVER:
                assert applies([policy], person) == set()
            elif finding.rule is Rule.SHADOWED:
                assert applies([policy], person) <= applies(alike, person)
            else:
                whole, without = (Engine(assemble(each)) for each in (statements, others))
                for action in ACTIONS:
                    for resource in RESOURCES:
                        one, other = (
                            each.decide(person, action, resource, at=NOW).allowed for each in (whole, without)
                        )
                        assert one is other


def test_a_set_in_files_is_told_in_the_order_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "b.cedar").write_text(VIEW)
    (tmp_path / "a.cedar").write_text(f"{LOOK};")

    told = lint(read_folder(tmp_path).statements)

    assert [finding.tell() for finding in told if finding.rule is Rule.SHADOWED] == [
        (
            f"{tmp_path}/a.cedar:1:1: warning: look: "
            f"view at {tmp_path}/b.cedar:1:1 permits all of this, and more [shadowed]\n"
            '    @id("look")\n    ^^^^^^^^^^^'
        )
    ]


@pytest.mark.parametrize("place", ['resource == App::"a"', 'resource in App::"a"'])
def test_a_permit_is_forbidden_where_the_forbid_is_about_its_place_alone(place: str) -> None:
    permit = f'@id("look") permit (principal in Role::"viewer", action == Action::"app:read", {place});\n'
    forbid = '@id("{0}") forbid (principal, action == Action::"app:read", resource in App::"{0}");\n'

    assert problems(permit + forbid.format("b")) == []
    assert problems(permit + forbid.format("b") + forbid.format("a")) == ["all that this permits is forbidden by a"]


def test_a_forbid_about_a_place_counts_where_another_is_about_all_the_rest() -> None:
    permit = '@id("look") permit (principal, action == Action::"app:read", resource);\n'
    here = '@id("here") forbid (principal, action == Action::"app:read", resource in App::"a");\n'
    elsewhere = (
        '@id("rest") forbid (principal, action == Action::"app:read", resource) unless { resource in App::"a" };'
    )

    assert "all that this permits is forbidden by here and rest" in problems(permit + here + elsewhere)
