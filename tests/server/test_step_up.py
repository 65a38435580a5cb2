"""Step-up: the login that would do is what policy itself would accept, and is asked for only where it would help."""

from dataclasses import replace
from pathlib import Path

import pytest

from arborgate.policies.engine import Engine
from arborgate.policies.errors import LoginNeeded
from arborgate.policies.loader import load_policies
from arborgate.policies.model import Action, Caller, Channel, Resource
from arborgate.server.step_up import find_login
from tests.policies.writing import TRUSTING, app, environment, load_alone, person, proposal

NOW = 2_000_000_000.0
PROD = environment("prod", strict=True)
DEV = environment("dev", strict=False)
SHIPPED = load_policies(None)


def logged_in(age: float | None, *, acr: str = "", role: str = "approver", channel: Channel = Channel.PAGES) -> Caller:
    caller = person("amy", role, channel=channel)
    return replace(caller, authenticated_at=0 if age is None else int(NOW - age), acr=acr)


def needed(
    caller: Caller, resource: Resource, *acr_values: str, engine: Engine | None = None, action: Action | None = None
) -> tuple[int, tuple[str, ...]] | None:
    asked, deciding = action or Action.PROPOSAL_APPROVE, engine or Engine(SHIPPED, surroundings=TRUSTING)

    def allows(other: Caller) -> bool:
        context = (("applied_today", 0),) if asked is Action.PROPOSAL_APPROVE else ()
        return deciding.decide(other, asked, resource, context, at=NOW).allowed

    found = find_login(caller, asked, allows, acr_values=acr_values, now=NOW)
    return (found.max_age, found.acr_values) if isinstance(found, LoginNeeded) else None


@pytest.mark.parametrize("age", [901, 100_000, None])
def test_the_age_that_is_asked_for_is_the_one_in_the_policy(age: float | None) -> None:
    assert needed(logged_in(age), proposal(app("shop", PROD), person("dana"))) == (900, ())


def test_where_less_is_at_stake_a_login_of_the_day_is_asked_for() -> None:
    assert needed(logged_in(28_801), proposal(app("shop", DEV), person("dana"))) == (28_800, ())


def test_no_login_is_asked_for_where_none_would_help() -> None:
    asked = proposal(app("shop", PROD), person("dana"))

    assert needed(logged_in(901, role="viewer"), asked) is None
    assert needed(logged_in(901, channel=Channel.MCP), asked) is None
    assert needed(logged_in(901), proposal(app("shop", PROD), person("amy"))) is None


def test_an_app_that_acts_for_itself_is_never_sent_to_log_in(tmp_path: Path) -> None:
    policies = (
        '@id("new") permit (principal, action, resource) when { context has login_age && context.login_age < 9 };'
    )
    engine = Engine(load_alone(tmp_path, policies), surroundings=TRUSTING)
    dana = logged_in(None, channel=Channel.MCP)

    assert needed(dana, app("shop"), engine=engine, action=Action.ROLLOUT_PROPOSE) == (0, ())
    assert needed(replace(dana, itself=True), app("shop"), engine=engine, action=Action.ROLLOUT_PROPOSE) is None


STRONG = """
@id("all") permit (principal, action, resource);
@id("strong") forbid (principal, action == Action::"rollout:propose", resource)
unless { ["mfa", "key"].contains(context.acr) && context.login_age <= 3600 };
"""


def test_a_stronger_login_is_asked_for_by_the_words_of_the_provider(tmp_path: Path) -> None:
    engine = Engine(load_alone(tmp_path, STRONG), surroundings=TRUSTING)

    def of(caller: Caller, *acr_values: str) -> tuple[int, tuple[str, ...]] | None:
        return needed(caller, app("shop"), *acr_values, engine=engine, action=Action.ROLLOUT_PROPOSE)

    assert of(logged_in(10, acr="pwd"), "pwd", "mfa", "key") == (3_600, ("mfa", "key"))
    assert of(logged_in(4_000, acr="mfa"), "pwd", "mfa", "key") == (3_600, ())
    assert of(logged_in(10, acr="pwd"), "pwd") is None
