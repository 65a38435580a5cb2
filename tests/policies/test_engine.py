"""The engine: default deny, forbid wins, errors deny, grants reach children, decisions are shared and remembered."""

from dataclasses import replace
from pathlib import Path

import cedarpy
import pytest

from arborgate.policies.calendar import Calendar, Season
from arborgate.policies.engine import Engine
from arborgate.policies.loader import load_policies
from arborgate.policies.model import (
    INSTALLATION,
    Action,
    Basis,
    Binding,
    Caller,
    Channel,
    Decision,
    Resource,
    ResourceType,
)
from arborgate.policies.surroundings import Surroundings
from tests.policies.writing import TRUSTING, app, environment, keyspace, load_alone, person, proposal

PROD = environment("prod", strict=True)
DEV = environment("dev", strict=False)


@pytest.fixture
def shipped() -> Engine:
    return Engine(load_policies(None), surroundings=TRUSTING)


def engine_of(folder: Path, policies: str, now: float = 1_000.0) -> Engine:
    return Engine(load_alone(folder, policies), clock=lambda: now)


class CountedCedar:
    """Cedar itself, with a count of how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        real = cedarpy.is_authorized

        def ask(
            request: dict[str, object], policies: cedarpy.PolicySet, entities: cedarpy.Entities
        ) -> cedarpy.AuthzResult:
            self.asked += 1
            return real(request, policies, entities)

        monkeypatch.setattr(cedarpy, "is_authorized", ask)


def test_what_no_policy_permits_is_denied(shipped: Engine) -> None:
    decision = shipped.decide(person("nora"), Action.APP_READ, app("shop", PROD))

    assert decision == Decision(allowed=False, basis=Basis.NO_PERMIT)


def test_a_permit_names_the_policy_that_gave_it(shipped: Engine) -> None:
    decision = shipped.decide(person("vera", "viewer"), Action.APP_READ, app("shop", PROD))

    assert decision == Decision(allowed=True, basis=Basis.PERMIT, policies=("readers-read",))


def test_a_forbid_wins_over_a_permit_and_is_what_the_decision_names(tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path,
        """
        @id("all") permit (principal, action, resource);
        @id("not-shop") forbid (principal, action, resource == App::"main/argocd/shop");
        """,
    )

    assert engine.decide(person(), Action.APP_READ, app("shop")) == Decision(False, Basis.FORBID, ("not-shop",))
    assert engine.decide(person(), Action.APP_READ, app("other")) == Decision(True, Basis.PERMIT, ("all",))


def test_a_grant_on_a_parent_app_reaches_what_is_under_it(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, '@id("shop") permit (principal, action, resource in App::"main/argocd/shop");')
    child = app("api", app("shop", PROD), PROD)

    assert engine.decide(person(), Action.APP_READ, child).allowed
    assert engine.decide(person(), Action.REDIS_READ, keyspace(child)).allowed
    assert engine.decide(person(), Action.PROPOSAL_READ, proposal(child, person("dana"))).allowed
    assert not engine.decide(person(), Action.APP_READ, app("api", app("bank", PROD), PROD)).allowed


def test_a_grant_on_an_environment_reaches_its_apps(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, '@id("dev") permit (principal, action, resource in Environment::"dev");')

    assert engine.decide(person(), Action.REDIS_READ_VALUE, keyspace(app("api", DEV))).allowed
    assert not engine.decide(person(), Action.REDIS_READ_VALUE, keyspace(app("api", PROD))).allowed


def test_an_error_while_deciding_is_a_denial_that_says_why(tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path,
        """
        @id("all") permit (principal, action, resource);
        @id("not-x") forbid (principal, action == Action::"app:read", resource is App) when { resource.project == "x" };
        """,
    )
    shapeless = Resource(ResourceType.APP, "main/argocd/shop", (DEV,))

    decision = engine.decide(person(), Action.APP_READ, shapeless)

    assert (decision.allowed, decision.basis, decision.policies) == (False, Basis.ERROR, ())
    assert "project" in decision.error
    assert engine.visible(person(), Action.APP_READ, [shapeless, app("shop", DEV)]) == [False, True]


@pytest.mark.parametrize(
    ("caller", "action", "resource", "context", "told"),
    [
        (person("vera", "viewer"), Action.APP_READ, proposal(app("a"), person()), (), "resource type `Proposal`"),
        (person("vera", "viewer"), Action.APP_READ, app("a"), (("weather", "fine"),), "weather"),
        (person("vera", "viewer"), Action.APP_READ, app("a"), (("channel", "pages"),), "channel"),
        (person("vera\ud800", "viewer"), Action.APP_READ, app("a"), (), "surrogate"),
        (None, Action.APP_READ, app("a"), (), "AttributeError"),
    ],
    ids=["wrong resource", "unknown context", "context of the engine's own", "not text", "no caller"],
)
def test_a_question_that_makes_no_sense_is_denied_not_raised(
    shipped: Engine,
    caller: Caller,
    action: Action,
    resource: Resource,
    context: tuple[tuple[str, str], ...],
    told: str,
) -> None:
    decision = shipped.decide(caller, action, resource, context)

    assert (decision.allowed, decision.basis) == (False, Basis.ERROR)
    assert told in decision.error
    assert shipped.visible(caller, action, [resource], context) == [False]


def test_a_panic_in_cedar_is_a_denial(shipped: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """What the bridge to Rust raises: not an Exception."""

    def panic(*_: object) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(cedarpy, "is_authorized", panic)
    monkeypatch.setattr(cedarpy, "is_authorized_partial", panic)

    decision = shipped.decide(person("vera", "viewer"), Action.APP_READ, app("shop", PROD))

    assert decision == Decision(False, Basis.ERROR, error="PanicException: index out of bounds")
    assert not shipped.could(person("vera", "viewer"), Action.APP_READ)


def test_an_error_names_the_resource_that_was_asked_of(tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path,
        '@id("x") permit (principal, action == Action::"app:read", resource is App) when { resource.name == "x" };',
    )

    for number in range(2):
        shapeless = Resource(ResourceType.APP, f"main/argocd/{number}", (DEV,))
        assert f"main/argocd/{number}" in engine.decide(person(), Action.APP_READ, shapeless).error


def test_an_error_is_not_remembered(shipped: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    question = person("vera", "viewer"), Action.APP_READ, app("shop", PROD)
    with monkeypatch.context() as broken:
        broken.setattr(cedarpy, "is_authorized", None)
        assert shipped.decide(*question).basis is Basis.ERROR

    assert shipped.decide(*question).allowed


def test_ids_with_quotes_and_line_breaks_are_only_ids(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, '@id("amy") permit (principal == Person::"i#amy", action, resource);')
    forged = Caller('i#amy", x: "', "a\nb", "n", frozenset({'g"'}), frozenset({'r") || true'}), "a", Channel.MCP)
    odd = Resource(ResourceType.APP, 'main/a/"\n\\', (DEV,), app("x").attributes)

    assert engine.decide(forged, Action.APP_READ, odd) == Decision(False, Basis.NO_PERMIT)
    assert engine.decide(replace(forged, issuer="i", subject="amy"), Action.APP_READ, odd).allowed


@pytest.mark.parametrize(
    ("parents", "strict"),
    [
        ((), True),
        ((DEV,), False),
        ((PROD,), True),
        ((app("above", PROD), DEV), False),
        ((app("above", DEV),), False),
        ((app("above", DEV), PROD), True),
        ((app("above"), DEV), False),
        ((DEV, PROD), True),
        ((Resource(ResourceType.ENVIRONMENT, "shapeless", (INSTALLATION,)),), True),
    ],
    ids=[
        "in no environment",
        "in one that is not strict",
        "in a strict one",
        "its own counts, not the parent app's",
        "the parent app's, where it has none of its own",
        "its own, the other way round",
        "a parent app without environment does not count",
        "any strict one of two",
        "one that does not say",
    ],
)
def test_the_nearest_environment_makes_a_resource_strict(
    parents: tuple[Resource, ...], strict: bool, tmp_path: Path
) -> None:
    engine = engine_of(tmp_path, '@id("strict") permit (principal, action, resource) when { context.strict };')

    assert engine.decide(person(), Action.APP_READ, app("shop", *parents)).allowed is strict
    assert engine.decide(person(), Action.REDIS_READ, keyspace(app("shop", *parents))).allowed is strict


@pytest.mark.parametrize(
    ("logged_in", "recent"),
    [(1_000, True), (900, True), (899, False), (0, False), (1_060, True), (1_061, False)],
    ids=["now", "as long ago as may be", "a second longer", "unknown", "clock a little ahead", "clock far ahead"],
)
def test_the_age_of_a_login_is_counted_when_approving(logged_in: int, recent: bool, tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path,
        """
        @id("recent") permit (principal, action in Action::"approve", resource) when { context.login_age <= 100 };
        """,
    )
    amy = replace(person("amy", channel=Channel.PAGES), authenticated_at=logged_in)
    asked = proposal(app("shop", PROD), person("dana"))

    assert engine.decide(amy, Action.PROPOSAL_APPROVE, asked).allowed is recent
    assert engine.visible(amy, Action.PROPOSAL_APPROVE, [asked, asked]) == [recent, recent]


def test_a_login_of_unknown_time_is_never_recent_whatever_the_clock_says(tmp_path: Path) -> None:
    policy = (
        '@id("recent") permit (principal, action in Action::"approve", resource) when { context.login_age <= 100 };'
    )
    engine = engine_of(tmp_path, policy, now=50.0)

    assert not engine.decide(person("amy"), Action.PROPOSAL_APPROVE, proposal(app("shop"), person("dana"))).allowed


def test_an_approval_is_not_answered_from_memory() -> None:
    now = 10_000.0
    engine = Engine(load_policies(None), lambda: now, TRUSTING)
    amy = replace(person("amy", "approver", channel=Channel.PAGES), authenticated_at=10_000)
    asked = proposal(app("shop", PROD), person("dana"))
    none = (("applied_today", 0),)
    assert engine.decide(amy, Action.PROPOSAL_APPROVE, asked, none).allowed

    now += 901

    assert not engine.decide(amy, Action.PROPOSAL_APPROVE, asked, none).allowed
    assert engine.decide(amy, Action.PROPOSAL_APPROVE, asked, none, at=10_900.0).allowed


def test_siblings_that_no_policy_can_tell_apart_share_one_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(
        tmp_path,
        """
        @id("read") permit (principal, action, resource);
        @id("strict") forbid (principal, action == Action::"app:read", resource) when { context.strict && context.itself };
        @id("team") forbid (principal, action == Action::"app:read", resource is App)
        when { resource.labels.contains("team=a") && resource.project like "x*" };
        """,
    )
    cedar = CountedCedar(monkeypatch)
    parent = app("shop", PROD)
    apps = [
        app(f"app-{number}", parent, (PROD, DEV)[number % 2], labels=(f"number={number}",)) for number in range(200)
    ]

    assert engine.visible(person("vera", "viewer"), Action.APP_READ, apps) == [True] * 200
    assert cedar.asked == 2  # in a strict environment, and not
    assert engine.visible(person("vera"), Action.APP_READ, [*apps, app("b", PROD, labels=("team=a",))]) == [True] * 201
    assert cedar.asked == 3  # what policies can tell apart
    assert engine.visible(person("nora"), Action.ROLLOUT_PROPOSE, apps) == [True] * 200
    assert cedar.asked == 4


class OneFreeze(Calendar):
    """A calendar that knows of one thing: an app or an environment that is frozen from a moment on."""

    what: str
    since: float = 0.0

    def season(self, environment: str, apps: frozenset[str], at: float) -> Season:
        return Season(frozen=self.what in (environment, *apps) and at >= self.since)


def test_the_calendar_tells_apart_apps_that_no_policy_does(tmp_path: Path) -> None:
    policies = """
    @id("propose") permit (principal, action in Action::"propose", resource);
    @id("freeze") forbid (principal, action in Action::"propose", resource) when { context.calendar.frozen };
    """
    loaded = load_alone(tmp_path, policies)
    apps = [app("a", PROD), app("b", PROD), app("c", DEV), app("d", DEV)]

    for what, free in (("main/argocd/b", [True, False, True, True]), ("prod", [False, False, True, True])):
        engine = Engine(loaded, lambda: 1_000.0, Surroundings(calendar=OneFreeze(what=what)))
        assert engine.visible(person(), Action.ROLLOUT_PROPOSE, apps) == free
        assert [engine.decide(person(), Action.ROLLOUT_PROPOSE, each).allowed for each in apps] == free


def test_resources_of_different_types_share_nothing(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, '@id("apps") permit (principal, action, resource is App);')
    shop = app("shop", DEV)

    assert engine.visible(person(), Action.REDIS_READ, [shop, keyspace(shop), shop]) == [True, False, True]


EVERYTHING = """
@id("all") permit (principal, action, resource);
@id("some") forbid (principal, action, resource) when {
  principal in Group::"staff" && principal in Role::"viewer" && context.agent == "copilot" && context.actors.contains("x")
  && context.channel == "mcp" && principal.key == principal.issuer && principal.name like "Vera*" && context.itself
  && context.bound && context.trust == "forbidden"
};
"""


def test_a_decision_is_remembered_for_the_same_question_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(tmp_path, EVERYTHING)
    cedar = CountedCedar(monkeypatch)
    vera = person("vera", "viewer")
    for _ in range(3):
        engine.decide(person("vera", "viewer"), Action.APP_READ, app("shop", PROD))
    assert cedar.asked == 1

    others = [
        replace(vera, roles=frozenset()),
        replace(vera, groups=frozenset()),
        replace(vera, agent="other"),
        replace(vera, actors=("x",)),
        replace(vera, channel=Channel.STDIO),
        replace(vera, subject="nora"),
        replace(vera, issuer="https://other.example"),
        replace(vera, name="V."),
        replace(vera, itself=True),
        replace(vera, binding=Binding.DPOP),
    ]
    for count, other in enumerate(others, start=2):
        engine.decide(other, Action.APP_READ, app("shop", PROD))
        assert cedar.asked == count


def test_callers_whom_no_policy_can_tell_apart_share_one_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(
        tmp_path,
        """
        @id("viewers") permit (principal in Role::"viewer", action, resource);
        @id("bots") forbid (principal, action, resource) when { context.agent like "bot-*" };
        """,
    )
    cedar = CountedCedar(monkeypatch)
    vera = person("vera", "viewer")
    others = [
        replace(vera, subject="nora", name="Nora"),
        replace(vera, issuer="https://other.example"),
        replace(vera, groups=frozenset(map(str, range(1_000)))),
        replace(vera, roles=frozenset({"viewer", "developer"})),
        replace(vera, agent="other", actors=("x",), channel=Channel.STDIO, itself=True, binding=Binding.DPOP),
    ]

    assert all(engine.decide(other, Action.APP_READ, app("shop", PROD)).allowed for other in [vera, *others])
    assert cedar.asked == 1
    assert not engine.decide(replace(vera, agent="bot-7"), Action.APP_READ, app("shop", PROD)).allowed
    assert cedar.asked == 2


def test_the_time_counts_as_far_as_policies_can_tell_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(
        tmp_path,
        '@id("new") permit (principal, action, resource); @id("old") forbid (principal, action in Action::"approve", '
        "resource) when { context.login_age > 100 || context.login_age >= 500 };",
    )
    cedar = CountedCedar(monkeypatch)
    asked = proposal(app("shop", PROD), person("dana"))
    amy = replace(person("amy", channel=Channel.PAGES), authenticated_at=1_000)

    moments = {1_000: True, 1_050: True, 1_100: True, 1_101: False, 1_400: False, 1_500: False, 9_999: False}
    for moment, allowed in moments.items():
        assert engine.decide(amy, Action.PROPOSAL_APPROVE, asked, at=moment).allowed is allowed
    assert cedar.asked == 5  # below 100, 100, below 500, 500, above


def test_an_attribute_that_is_true_is_not_one_that_is_1(tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path, '@id("x") permit (principal, action, resource is Environment) when { resource.strict };'
    )
    one = Resource(ResourceType.ENVIRONMENT, "a", (), (("strict", 1),))
    true = Resource(ResourceType.ENVIRONMENT, "a", (), (("strict", True),))

    assert engine.decide(person(), Action.APP_LIST, true).allowed
    assert engine.decide(person(), Action.APP_LIST, one).basis is Basis.ERROR
