"""What a caller has at a place: roles granted at a parent app, a token for one app, a scope that leaves something out."""

import tempfile
from dataclasses import replace
from pathlib import Path

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arborgate.policies.engine import Engine
from arborgate.policies.loader import load_policies, read_policies
from arborgate.policies.model import (
    INSTALLATION,
    NO_SCOPE,
    OUTSIDE,
    Action,
    ActionGroup,
    Binding,
    Caller,
    Channel,
    Resource,
)
from tests.policies.test_sight import CONDITIONS, SCOPES, action_of, decide_plainly, worlds
from tests.policies.writing import TRUSTING, app, environment, keyspace, load_alone, person, proposal, write_policies

PROD = environment("prod", strict=True)
DEV = environment("dev", strict=False)
SHOP = app("shop", PROD)
API = app("api", SHOP, DEV)
BANK = app("bank", DEV)
SHIPPED = load_policies(None)

ROLES = ("developer", "viewer", "guest")
PRINCIPALS = st.sampled_from(["principal", *(f'principal in Role::"{role}"' for role in ROLES)])


@st.composite
def role_policies(draw: st.DrawFn) -> str:
    return "\n".join(
        f'@id("p{number}") {draw(st.sampled_from(["permit", "permit", "forbid"]))} '
        f"({draw(PRINCIPALS)}, action, {draw(SCOPES)}) {draw(CONDITIONS)};"
        for number in range(draw(st.integers(1, 5)))
    )


def apps_above(resource: Resource) -> set[str]:
    own = {resource.id} if resource.type == "App" else set()
    return own.union(*(apps_above(parent) for parent in resource.parents))


GRANTS = st.frozensets(
    st.tuples(st.sampled_from(ROLES), st.sampled_from([f"main/argocd/{name}" for name in "abcd"])), max_size=4
)


@settings(max_examples=80, deadline=None)
@given(policies=role_policies(), resources=worlds(), grants=GRANTS, roles=st.frozensets(st.sampled_from(ROLES)))
def test_granted_roles_decide_as_if_the_caller_had_just_those_that_hold_there(
    policies: str, resources: list[Resource], grants: frozenset[tuple[str, str]], roles: frozenset[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_alone(Path(folder), policies)
    engine = Engine(loaded)
    caller = replace(person("vera"), roles=roles, grants=grants)

    def there(resource: Resource) -> Caller:
        held = {role for role, at in grants if at in apps_above(resource)}
        return replace(caller, roles=roles | held, grants=frozenset())

    plain = [decide_plainly(policies, there(each), action_of(each), each) for each in resources]
    apps = [each for each in resources if each.type == "App"]

    assert [
        (one.allowed, one.policies) for each in resources if (one := engine.decide(caller, action_of(each), each))
    ] == [*plain]
    assert engine.visible(caller, Action.APP_READ, apps) == [
        allowed for (allowed, _), each in zip(plain, resources, strict=True) if each.type == "App"
    ]
    for (allowed, _), each in zip(plain, resources, strict=True):
        assert not allowed or engine.could(caller, action_of(each))


@pytest.fixture
def engine() -> Engine:
    return Engine(SHIPPED, surroundings=TRUSTING)


def granted(*grants: tuple[str, Resource], channel: Channel = Channel.MCP) -> Caller:
    return replace(
        person("paul", channel=channel),
        authenticated_at=2_000_000_000,
        grants=frozenset((role, at.id) for role, at in grants),
    )


def test_a_role_at_a_parent_app_reaches_its_children_and_what_they_own(engine: Engine) -> None:
    paul = granted(("developer", SHOP))

    assert engine.decide(paul, Action.ROLLOUT_PROPOSE, API).allowed
    assert engine.decide(paul, Action.REDIS_READ_VALUE, keyspace(API)).allowed
    assert not engine.decide(paul, Action.APP_READ, BANK).allowed
    assert engine.visible(paul, Action.APP_READ, [SHOP, BANK, API]) == [True, False, True]


def test_roles_at_two_apps_hold_together_only_below_both(tmp_path: Path) -> None:
    policy = (
        '@id("both") permit (principal, action, resource) when { principal in Role::"a" && principal in Role::"b" };'
    )
    engine = Engine(load_alone(tmp_path, policy))
    paul = granted(("a", SHOP), ("b", API))

    assert [engine.decide(paul, Action.APP_READ, each).allowed for each in (SHOP, API, BANK)] == [False, True, False]
    assert engine.could(paul, Action.APP_READ)
    assert not engine.could(granted(("a", SHOP)), Action.APP_READ)


def test_a_role_anywhere_opens_lists_and_nothing_else_of_the_installation(engine: Engine) -> None:
    paul = granted(("auditor", SHOP))

    assert engine.decide(paul, Action.APP_LIST, INSTALLATION).allowed
    assert not engine.decide(paul, Action.RECORD_SEARCH_ALL, INSTALLATION).allowed
    assert engine.could(paul, Action.RECORD_SEARCH_ALL)
    assert not engine.could(paul, Action.ROLLOUT_PROPOSE)


def test_a_proposal_on_two_apps_takes_the_role_at_both(engine: Engine) -> None:
    paul = granted(("approver", API), channel=Channel.PAGES)
    answers = [
        engine.decide(paul, Action.PROPOSAL_APPROVE, proposal(each, person("dana")), at=2_000_000_000).allowed
        for each in (API, BANK)
    ]
    assert answers == [True, False]


def test_more_sets_of_roles_than_can_be_tried_count_as_possible(tmp_path: Path) -> None:
    names = [f"r{number}" for number in range(8)]
    needed = " && ".join(f'principal in Role::"{name}"' for name in [*names, "never"])
    policy = f'@id("all") permit (principal, action, resource) when {{ {needed} }};'
    engine = Engine(load_alone(tmp_path, policy))

    assert not engine.could(granted(*((name, app(name)) for name in names[:6])), Action.APP_READ)
    assert engine.could(granted(*((name, app(name)) for name in names)), Action.APP_READ)


def test_a_token_for_one_app_is_good_for_that_app_and_what_is_below_it(tmp_path: Path) -> None:
    anything = write_policies(tmp_path, '@id("all") permit (principal, action, resource);')
    engine = Engine(read_policies(anything)[0])
    child = replace(person("ctl", channel=Channel.APPLIER), within=SHOP.id, itself=True)

    for inside in (SHOP, API, keyspace(API)):
        assert engine.decide(child, action_of(inside), inside).allowed
    for outside in (BANK, keyspace(BANK), PROD):
        action = Action.APP_READ if outside is PROD else action_of(outside)
        assert engine.decide(child, action, outside) == OUTSIDE
    assert engine.visible(child, Action.APP_READ, [BANK, API, PROD, SHOP]) == [False, True, False, True]


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.TOKEN_EXCHANGE])
def test_a_token_for_one_app_opens_of_the_installation_only_the_lists(action: Action, tmp_path: Path) -> None:
    anything = write_policies(tmp_path, '@id("all") permit (principal, action, resource);')
    engine = Engine(read_policies(anything)[0])
    child = replace(person("ctl"), within=SHOP.id)
    lists = action.group is ActionGroup.READ and action is not Action.RECORD_SEARCH

    assert (engine.decide(child, action, INSTALLATION) == OUTSIDE) is not lists


def test_a_token_for_one_app_makes_no_other_tokens(engine: Engine) -> None:
    controller = replace(person("ctl", "controller"), itself=True)

    assert engine.decide(controller, Action.TOKEN_EXCHANGE, API).allowed
    assert engine.decide(replace(controller, within=SHOP.id), Action.TOKEN_EXCHANGE, API) == OUTSIDE
    assert not engine.could(replace(controller, within=SHOP.id), Action.TOKEN_EXCHANGE)


def test_what_the_scope_leaves_out_is_denied_wherever_it_is_asked(engine: Engine) -> None:
    vera = replace(person("vera", "viewer"), withheld=((ActionGroup.READ, "read"),))

    assert engine.decide(vera, Action.APP_READ, SHOP) == NO_SCOPE
    assert engine.visible(vera, Action.APP_READ, [SHOP, API]) == [False, False]
    assert engine.decide(replace(vera, withheld=()), Action.APP_READ, SHOP).allowed
    assert engine.could(vera, Action.APP_READ)


def test_only_a_list_is_in_no_environment_and_not_strict(tmp_path: Path) -> None:
    engine = Engine(
        read_policies(
            write_policies(tmp_path, '@id("s") permit (principal, action, resource) when { context.strict };')
        )[0]
    )

    assert not engine.decide(person(), Action.APP_LIST, INSTALLATION).allowed
    assert engine.decide(person(), Action.RECORD_SEARCH_ALL, INSTALLATION).allowed


UNBOUND = """
@id("all") permit (principal, action, resource);
@id("bound-in-production") forbid (principal, action in [Action::"read", Action::"propose"], resource)
when { context.strict } unless { context.bound };
"""


@pytest.mark.parametrize("binding", Binding)
def test_a_policy_can_demand_bound_calls_in_strict_environments(binding: Binding, tmp_path: Path) -> None:
    engine = Engine(read_policies(write_policies(tmp_path, UNBOUND))[0])
    vera = replace(person("vera"), binding=binding)
    strict = binding is not Binding.BEARER

    assert engine.decide(vera, Action.APP_LIST, INSTALLATION).allowed
    assert engine.visible(vera, Action.APP_READ, [SHOP, API, BANK]) == [strict, True, True]
    assert engine.decide(vera, Action.ROLLOUT_PROPOSE, SHOP).allowed is strict
    assert engine.reach(vera, Action.ROLLOUT_PROPOSE) == ({True, False} if strict else {False})


def test_the_same_agent_alone_and_for_a_person_are_told_apart(engine: Engine) -> None:
    robot = replace(person("robot", "developer", agent="robot"), itself=True)
    for_dana = replace(person("dana", "developer", agent="chat"), actors=("robot",))

    assert engine.decide(robot, Action.ROLLOUT_PROPOSE, API).policies == ("agents-alone-only-look",)
    assert engine.decide(for_dana, Action.ROLLOUT_PROPOSE, API).allowed
    assert engine.decide(robot, Action.APP_READ, API).allowed


def test_roles_granted_elsewhere_share_the_answers_of_those_without(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    real = cedarpy.is_authorized

    def count(*args: object) -> cedarpy.AuthzResult:
        nonlocal asked
        asked += 1
        return real(*args)  # type: ignore[arg-type]  # passed through as they came

    monkeypatch.setattr(cedarpy, "is_authorized", count)
    vera = person("vera", "viewer")
    for number, other in enumerate([vera, replace(vera, grants=frozenset({("developer", SHOP.id)}))], start=1):
        engine.decide(other, Action.APP_READ, API)
        engine.decide(replace(other), Action.APP_READ, API)
        assert asked == number
    engine.decide(replace(vera, grants=frozenset({("developer", BANK.id)})), Action.APP_READ, API)
    assert asked == 2


def test_the_way_of_logging_in_counts_for_approvals_and_proposals_and_is_never_remembered(tmp_path: Path) -> None:
    policy = (
        '@id("key") permit (principal, action in [Action::"propose", Action::"approve"], resource) '
        'when { context.acr == "key" && context.login_age < 60 };'
    )
    engine = Engine(load_alone(tmp_path, policy), clock=lambda: 1_000)
    weak = replace(person("amy"), acr="pwd", authenticated_at=1_000)
    strong = replace(weak, acr="key")

    for caller, allowed in ((weak, False), (strong, True), (replace(strong, authenticated_at=900), False)):
        assert engine.decide(caller, Action.ROLLOUT_PROPOSE, API).allowed is allowed
        assert engine.decide(caller, Action.PROPOSAL_APPROVE, proposal(API, person("dana"))).allowed is allowed
    assert not engine.could(weak, Action.ROLLOUT_PROPOSE)
    assert engine.could(weak, Action.ROLLOUT_PROPOSE, ("pwd", "key"))
