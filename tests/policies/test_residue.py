"""Who can, and what can: the answers say exactly what the engine decides, one by one, and say it in few words."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arborgate.policies.engine import Engine, LoadedPolicies
from arborgate.policies.loader import assemble
from arborgate.policies.model import (
    INSTALLATION,
    NO_SCOPE,
    OUTSIDE,
    Action,
    ActionGroup,
    Caller,
    Channel,
    Resource,
    ResourceType,
)
from arborgate.policies.residue import Ways, what_can, who_can
from arborgate.policies.world import Person, World
from tests.policies.random_policies import ACTIONS, NOW, RESOURCES, callers, policy_sets, read, resources

RANDOM = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def said(ways: Ways, scope: str) -> Engine:
    """An engine that knows nothing but what the answer says."""
    return Engine(assemble(read(f'@id("said") permit (principal, action, {scope}) when {{ {ways.condition} }};')))


@RANDOM
@given(policy_sets(), st.sampled_from(ACTIONS), resources(), st.lists(callers(), min_size=1, max_size=12))
def test_who_can_says_what_is_decided_for_everybody(
    loaded: LoadedPolicies, action: Action, resource: Resource, people: list[Caller]
) -> None:
    engine = Engine(loaded)
    ways = who_can(loaded, action, resource)
    answer = said(ways, f'resource == {resource.type}::"{resource.id}"')

    for person in people:
        decided = engine.decide(person, action, resource, at=NOW).allowed
        assert answer.decide(person, action, resource, at=NOW).allowed is decided
        assert not (ways.always and not person.within and not decided)


@RANDOM
@given(policy_sets(), callers())
def test_what_can_says_what_is_decided_for_every_resource(loaded: LoadedPolicies, person: Caller) -> None:
    engine = Engine(loaded)

    for ways in what_can(loaded, person):
        if ways.action not in ACTIONS:
            continue
        answer = said(ways, f"resource is {ways.type}")
        for resource in RESOURCES:
            if resource.type is ways.type:
                decided = engine.decide(person, ways.action, resource, at=NOW).allowed
                assert answer.decide(person, ways.action, resource, at=NOW).allowed is decided
                assert not (ways.always and not decided)


POLICIES = """
@id("read")
permit (principal in Role::"viewer", action in Action::"read", resource);

@id("team")
permit (principal in Group::"shop", action == Action::"redis:read_value", resource in App::"main/argocd/shop")
when { context.strict || context.bound };

@id("approve")
permit (principal, action == Action::"proposal:approve", resource)
when { principal in [Role::"approver", Role::"lead"] };

@id("people")
forbid (principal, action in Action::"approve", resource)
unless { context.interactive && !context.itself };

@id("fresh")
forbid (principal, action == Action::"proposal:approve", resource)
when { (context.strict || resource.risk == "high") && context.login_age > 900 };

@id("own")
forbid (principal, action in Action::"approve", resource)
when { resource.requester == principal.key };
"""

WORLD = World.model_validate(
    {
        "environments": {"prod": {"strict": True}, "dev": {}},
        "apps": {"main/argocd/shop": {"environment": "prod"}, "main/argocd/toys": {"environment": "dev"}},
        "keyspaces": {"main:shop:": {"app": "main/argocd/shop"}, "main:toys:": {"app": "main/argocd/toys"}},
        "proposals": {
            "in-prod": {"app": "main/argocd/shop", "requester": "dana"},
            "in-dev": {"app": "main/argocd/toys", "requester": "dana"},
        },
    }
).resources()


LOADED = assemble(read(POLICIES))


def test_a_way_names_the_role_it_takes_and_each_forbid_with_what_takes_it() -> None:
    found = who_can(LOADED, Action.PROPOSAL_APPROVE, WORLD["Proposal::in-prod"])

    (way,) = found.ways
    assert (way.policy, way.location.line, way.roles, way.groups) == ("approve", 9, ("approver", "lead"), ())
    assert way.needs == 'principal in [Role::"approver", Role::"lead"]'
    assert [(hurdle.policy, hurdle.location.line, hurdle.needs) for hurdle in way.hurdles] == [
        ("fresh", 17, "context.login_age <= 900"),
        ("own", 21, 'principal.key != "https://issuer.example#dana"'),
        ("people", 13, "context.interactive && !context.itself"),
    ]
    assert not found.always


def test_a_forbid_that_cannot_hold_there_is_no_hurdle() -> None:
    found = who_can(LOADED, Action.PROPOSAL_APPROVE, WORLD["Proposal::in-dev"])

    assert [hurdle.policy for way in found.ways for hurdle in way.hurdles] == ["own", "people"]


def test_a_permit_elsewhere_is_no_way() -> None:
    assert [way.groups for way in who_can(LOADED, Action.REDIS_READ_VALUE, WORLD["Keyspace::main:shop:"]).ways] == [
        ("shop",)
    ]
    assert who_can(LOADED, Action.REDIS_READ_VALUE, WORLD["Keyspace::main:toys:"]).ways == ()


def test_a_list_is_not_strict_and_other_questions_about_the_whole_installation_are() -> None:
    (free,) = read('@id("free") permit (principal, action, resource) unless { context.strict };')
    loaded = assemble([free])

    assert who_can(loaded, Action.APP_LIST, INSTALLATION).always
    assert who_can(loaded, Action.RECORD_SEARCH_ALL, INSTALLATION).ways == ()


def test_nobody_can_do_what_is_never_asked_of_such_a_resource() -> None:
    assert who_can(LOADED, Action.REDIS_READ_VALUE, WORLD["App::main/argocd/shop"]).ways == ()


def reach(person: Person, action: Action, kind: ResourceType) -> Ways:
    found = what_can(LOADED, person.caller("dana", NOW))
    return next(ways for ways in found if (ways.action, ways.type) == (action, kind))


def test_what_holds_everywhere_is_said_to() -> None:
    viewer = Person(roles=frozenset({"viewer"}))

    assert reach(viewer, Action.APP_READ, ResourceType.APP).always
    assert reach(viewer, Action.REDIS_READ_VALUE, ResourceType.KEYSPACE).condition == "false"


def test_a_role_at_an_app_reaches_what_is_below_it_and_the_lists() -> None:
    person = Person(grants={"viewer": ("main/argocd/shop",)})

    below = reach(person, Action.APP_READ, ResourceType.APP)
    assert (below.always, below.condition) == (False, 'resource in App::"main/argocd/shop"')
    assert reach(person, Action.APP_LIST, ResourceType.INSTALLATION).always
    assert reach(person, Action.APP_READ, ResourceType.ENVIRONMENT).condition == "false"


def test_what_forbids_leave_nothing_of_is_told_with_them() -> None:
    agent = Person(roles=frozenset({"approver"}))

    found = reach(agent, Action.PROPOSAL_APPROVE, ResourceType.PROPOSAL)

    assert found.ways == ()
    assert [(each.policy, each.by) for each in found.blocked] == [("approve", ("people",))]


def test_what_depends_on_the_resource_and_the_login_is_said_in_cedar() -> None:
    amy = Person(roles=frozenset({"approver"}), channel=Channel.PAGES)

    found = reach(amy, Action.PROPOSAL_APPROVE, ResourceType.PROPOSAL)

    assert [(hurdle.policy, hurdle.needs) for way in found.ways for hurdle in way.hurdles] == [
        ("fresh", '(!context.strict && resource.risk != "high") || context.login_age <= 900'),
        ("own", 'resource.requester != "https://issuer.example#dana"'),
    ]


def test_a_known_login_is_no_condition() -> None:
    amy = Person(roles=frozenset({"approver"}), channel=Channel.PAGES).caller("amy", NOW)

    (old,) = (ways for ways in what_can(LOADED, amy, login_age=901) if ways.action is Action.PROPOSAL_APPROVE)

    assert old.ways[0].hurdles[0].needs == '!context.strict && resource.risk != "high"'


def test_a_credential_that_is_not_good_for_it_is_told() -> None:
    viewer = Person(roles=frozenset({"viewer"})).caller("vera", NOW)
    narrow = replace(viewer, within="main/argocd/shop", withheld=((ActionGroup.APPROVE, "approve"),))

    found = {(ways.action, ways.type): ways for ways in what_can(LOADED, narrow)}

    assert found[Action.APP_READ, ResourceType.APP].condition == 'resource in App::"main/argocd/shop"'
    assert found[Action.APP_READ, ResourceType.ENVIRONMENT].blocked[0].by == OUTSIDE.policies
    assert found[Action.PROPOSAL_APPROVE, ResourceType.PROPOSAL].blocked[0].by == NO_SCOPE.policies
