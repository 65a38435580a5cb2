"""Agents: which the platform team trusts, and that the worst of several counts."""

import pytest

from arborgate.policies.agents import Agents
from arborgate.policies.model import AgentTrust

AGENTS = Agents(trusted=("copilot", "ide-*"), forbidden=("ide-old", "spy"))


@pytest.mark.parametrize(
    ("agent", "actors", "direct", "trust"),
    [
        ("copilot", (), False, AgentTrust.TRUSTED),
        ("ide-new", ("copilot",), False, AgentTrust.TRUSTED),
        ("ide-old", (), False, AgentTrust.FORBIDDEN),
        ("copilot", ("ide-new", "spy"), False, AgentTrust.FORBIDDEN),
        ("spy", ("stranger",), False, AgentTrust.FORBIDDEN),
        ("Copilot", (), False, AgentTrust.UNKNOWN),
        ("copilot", ("stranger",), False, AgentTrust.UNKNOWN),
        ("", (), False, AgentTrust.UNKNOWN),
        ("", ("copilot",), False, AgentTrust.UNKNOWN),
        ("", (), True, AgentTrust.NONE),
        ("arborgate-pages", (), True, AgentTrust.NONE),
        ("arborgate-pages", ("copilot",), True, AgentTrust.TRUSTED),
        ("arborgate-pages", ("stranger",), True, AgentTrust.UNKNOWN),
        ("spy", (), True, AgentTrust.FORBIDDEN),
    ],
)
def test_a_call_is_trusted_as_much_as_the_worst_of_its_agents(
    agent: str, actors: tuple[str, ...], direct: bool, trust: AgentTrust
) -> None:
    assert AGENTS.trust(agent, actors, direct=direct) is trust


def test_settings_that_name_no_agent_trust_none() -> None:
    assert Agents().trust("copilot", (), direct=False) is AgentTrust.UNKNOWN


def test_an_agent_without_a_name_is_unknown_even_where_all_are_trusted() -> None:
    assert Agents(trusted=("*",)).trust("", (), direct=False) is AgentTrust.UNKNOWN


@pytest.mark.parametrize("pattern", ["", " bad-bot", "bad-bot\n"])
def test_a_pattern_that_could_fit_no_agent_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="fits no agent"):
        Agents(forbidden=(pattern,))
