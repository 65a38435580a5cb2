"""What could be allowed somewhere: by partial evaluation, never too little."""

from pathlib import Path

import cedarpy
import pytest

from arborgate.policies.engine import Engine
from arborgate.policies.loader import load_policies
from arborgate.policies.model import Action, Basis, Caller, Channel
from tests.policies.writing import TRUSTING, app, load_alone, person, proposal


@pytest.fixture
def shipped() -> Engine:
    return Engine(load_policies(None), surroundings=TRUSTING)


def engine_of(folder: Path, policies: str) -> Engine:
    return Engine(load_alone(folder, policies), clock=lambda: 1_000.0)


def test_could_is_yes_where_some_resource_would_be_allowed(shipped: Engine) -> None:
    dana = person("dana", "developer")
    allowed = {action for action in Action if shipped.could(dana, action)}

    assert allowed == {
        Action.APP_LIST,
        Action.APP_READ,
        Action.CALLER_READ,
        Action.PERSONAL_READ,
        Action.PROPOSAL_LIST,
        Action.PROPOSAL_READ,
        Action.PROPOSAL_WITHDRAW,
        Action.RECORD_SEARCH,
        Action.REDIS_LIST,
        Action.REDIS_READ,
        Action.REDIS_READ_VALUE,
        Action.ROLLOUT_PROPOSE,
    }


def test_could_is_no_where_the_channel_or_the_agent_forbids_it(shipped: Engine) -> None:
    assert shipped.could(person("amy", "approver", channel=Channel.PAGES), Action.PROPOSAL_APPROVE)
    assert not shipped.could(person("amy", "approver"), Action.PROPOSAL_APPROVE)
    assert not shipped.could(person("dana", "developer", agent=""), Action.ROLLOUT_PROPOSE)
    assert not shipped.could(person("applier", "applier"), Action.PROPOSAL_APPLY)


def test_could_tells_apart_people_whom_policies_name(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, '@id("amy") permit (principal == Person::"https://i/#\\"amy", action, resource);')
    amy = Caller("https://i/", '"amy', "Amy", frozenset(), frozenset(), "a", Channel.MCP)

    assert engine.could(amy, Action.APP_READ)
    assert not engine.could(person("caller"), Action.APP_READ)


def test_what_nobody_counted_is_taken_as_very_large(tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path,
        """
        @id("all") permit (principal, action, resource);
        @id("six") forbid (principal, action in [Action::"proposal:approve", Action::"proposal:apply"], resource)
        when { context.applied_today >= 6 };
        @id("reviewed") forbid (principal, action == Action::"proposal:break_glass", resource)
        when { context.unreviewed > 0 };
        """,
    )
    asked = proposal(app("shop"), person("dana"))

    for action, counted, least in (
        (Action.PROPOSAL_APPROVE, "applied_today", 6),
        (Action.PROPOSAL_APPLY, "applied_today", 6),
        (Action.PROPOSAL_BREAK_GLASS, "unreviewed", 1),
    ):
        assert engine.decide(person(), action, asked, ((counted, least - 1),)).allowed, action
        assert not engine.decide(person(), action, asked, ((counted, least),)).allowed, action
        assert engine.decide(person(), action, asked).basis is Basis.FORBID, action
        assert engine.could(person(), action), action


def test_what_nobody_says_of_approvals_is_that_there_are_none_and_none_is_signed(tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path,
        """
        @id("all") permit (principal, action, resource);
        @id("signed") forbid (principal, action in [Action::"proposal:approve", Action::"proposal:break_glass"], resource)
        unless { context.signed };
        @id("two") forbid (principal, action == Action::"proposal:apply", resource)
        unless { context.approvals >= 2 && context.signed_approvals >= 1 };
        """,
    )
    asked = proposal(app("shop"), person("dana"))

    for action in (Action.PROPOSAL_APPROVE, Action.PROPOSAL_BREAK_GLASS):
        assert "signed" not in engine.decide(person(), action, asked, (("signed", True),)).policies, action
        assert "signed" in engine.decide(person(), action, asked).policies, action
        assert engine.could(person(), action), action
    for approvals, signed, denied in ((2, 1, False), (1, 1, True), (2, 0, True)):
        context = (("approvals", approvals), ("signed_approvals", signed))
        assert ("two" in engine.decide(person(), Action.PROPOSAL_APPLY, asked, context).policies) is denied
    assert "two" in engine.decide(person(), Action.PROPOSAL_APPLY, asked).policies
    assert engine.could(person(), Action.PROPOSAL_APPLY)


def test_could_offers_nothing_when_deciding_fails(shipped: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cedarpy, "is_authorized_partial", None)

    assert not shipped.could(person("vera", "viewer"), Action.APP_READ)
