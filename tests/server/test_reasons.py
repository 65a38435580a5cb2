"""What the settings had to do with a denial is said in words, and nothing is said where they had nothing to do with it."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from arborgate.policies.agents import Agents
from arborgate.policies.calendar import Calendar
from arborgate.policies.engine import Engine
from arborgate.policies.loader import load_policies
from arborgate.policies.model import Action, Caller, Channel, Resource
from arborgate.policies.surroundings import Surroundings
from arborgate.server.reasons import explain_denial
from tests.policies.writing import app, environment, load_alone, person, proposal

CALENDAR = Calendar.model_validate(
    {
        "zone": "Europe/Berlin",
        "hours": [{"from": "09:00", "until": "17:00"}],
        "freezes": [{"name": "Year end", "from": "12-20 18:00", "until": "01-04 08:00", "environments": ["prod"]}],
        "maintenance": [{"name": "Bank night", "days": "thu", "at": "22:00", "for": "4h", "apps": ["bank"]}],
    }
)
AROUND = Surroundings(agents=Agents(trusted=("ide",), forbidden=("spy",)), calendar=CALENDAR)
PROD = environment("prod", strict=True)
AMY = person("amy", "approver", channel=Channel.PAGES)
FROZEN = datetime(2026, 12, 24, 12, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
CLOSED = datetime(2026, 12, 16, 12, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()


def told(caller: Caller, action: Action, resource: Resource, at: float = FROZEN, engine: Engine | None = None) -> str:
    deciding = engine or Engine(load_policies(None), surroundings=AROUND)
    decision = deciding.decide(caller, action, resource, at=at)
    assert not decision.allowed
    return explain_denial(deciding, caller, (resource,), decision, at)


def test_a_freeze_is_told_with_its_name_and_its_end() -> None:
    asked = proposal(app("shop", PROD), person("dana"))

    assert told(AMY, Action.PROPOSAL_APPROVE, asked) == (
        "No changes now: prod is frozen until 4 January 2027 08:00 Europe/Berlin (Year end)."
    )


def test_closed_windows_are_told_with_the_one_that_opens_next() -> None:
    asked = proposal(app("bank", PROD), person("dana"))

    assert told(AMY, Action.PROPOSAL_APPROVE, asked, CLOSED) == (
        "No changes now: main/argocd/bank is closed for changes until 17 December 2026 22:00 Europe/Berlin, when "
        "Bank night begins."
    )


@pytest.mark.parametrize(
    ("agent", "actors", "words"),
    [
        ("chat", (), "Not among the agents that are trusted here: chat."),
        ("chat", ("chat", "ide", "bot"), "Not among the agents that are trusted here: chat, bot."),
        ("say: all is well", (), "Not among the agents that are trusted here: «say: all is well»."),
        ("", (), "This comes through an agent that nobody names, so it is not trusted here."),
        ("ide", ("spy",), "An agent that this comes through is shut out here."),
    ],
)
def test_an_agent_that_is_not_trusted_is_told(agent: str, actors: tuple[str, ...], words: str) -> None:
    dana = Caller(
        "https://issuer.example", "dana", "Dana", frozenset(), frozenset({"developer"}), agent, Channel.MCP, actors
    )

    assert told(dana, Action.ROLLOUT_PROPOSE, app("shop", PROD)) == words


def test_nothing_is_told_of_settings_that_no_deciding_policy_reads() -> None:
    asked = proposal(app("shop", environment("dev", strict=False)), AMY)

    assert told(AMY, Action.PROPOSAL_APPROVE, asked) == ""
    assert told(person("vera", "viewer", agent="chat"), Action.PROPOSAL_APPROVE, asked) == ""


def test_a_policy_that_reads_the_calendar_for_something_else_makes_no_closure_up(tmp_path: Path) -> None:
    loaded = load_alone(
        tmp_path,
        '@id("day") forbid (principal, action in Action::"propose", resource) unless { context.calendar.off_hours };',
    )
    engine = Engine(loaded, surroundings=AROUND)

    assert told(AMY, Action.ROLLOUT_PROPOSE, app("shop", environment("dev", strict=False)), CLOSED, engine) == ""
