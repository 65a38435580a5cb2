"""Whatever the policies, the callers, the world and the time: the engine answers as Cedar does that is asked about one
resource after the other, with all policies and everything there is to know."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arborgate.policies import parts
from arborgate.policies.agents import Agents
from arborgate.policies.calendar import Calendar, Season
from arborgate.policies.engine import Engine, LoadedPolicies
from arborgate.policies.loader import assemble
from arborgate.policies.model import (
    COUNTED,
    INSTALLATION,
    Action,
    ActionGroup,
    Binding,
    Caller,
    Channel,
    Question,
    Resource,
    ResourceType,
)
from arborgate.policies.statements import read_statements
from arborgate.policies.surroundings import Surroundings
from tests.policies.plainly import decide_plainly
from tests.policies.writing import app, environment, keyspace, person

NOW = 1_000_000.0
ASKED = {
    Action.APP_LIST: ResourceType.INSTALLATION,
    Action.APP_READ: ResourceType.APP,
    Action.REDIS_READ_VALUE: ResourceType.KEYSPACE,
    Action.ROLLOUT_PROPOSE: ResourceType.APP,
    Action.PROPOSAL_APPROVE: ResourceType.PROPOSAL,
    Action.PROPOSAL_APPLY: ResourceType.PROPOSAL,
}
APPS = [f"main/argocd/{name}" for name in "abcdef"]
GROUPS, ROLES = ("staff", "team-x", "team-y"), ("viewer", "developer")

WHO = ["principal", 'principal in Group::"team-x"', 'principal == Person::"https://issuer.example#vera"']
WHERE = ["resource", "resource is App", 'resource in App::"main/argocd/a"', 'resource is App in Environment::"dev"']
WHAT = ["action", 'action in [Action::"read", Action::"propose"]', 'action == Action::"app:read"']
TESTS = [
    'principal in Group::"team-x"',
    'principal in [Group::"team-y", Role::"viewer"]',
    '(principal in Role::"developer" || principal in Group::"team-x")',
    'Person::"https://issuer.example#dana" == principal',
    'principal.name like "V*"',
    "[principal] == [principal]",
    'resource in App::"main/argocd/a"',
    'resource in [App::"main/argocd/b", Environment::"prod"]',
    'resource == App::"main/argocd/c"',
    'App::"main/argocd/d" != resource',
    'resource in Installation::"arborgate"',
    "resource is Keyspace",
    '[resource].contains(App::"main/argocd/a")',
    'resource.name == "b"',
    'resource has name && resource.name like "*b*"',
    'resource has labels && resource.labels.contains("tier=web")',
    'resource has labels && resource.labels.containsAll(["tier=db", "x=y"])',
    "resource has labels && resource.labels.isEmpty()",
    'resource has prefix && resource.prefix like "sh*p:"',
    "resource has requester && resource.requester == principal.key",
    'resource has risk && "high" != resource.risk',
    "context.strict",
    "context.itself",
    'context.agent == "copilot"',
    'context.agent like "bot-*-x"',
    'context.actors.containsAny(["bot", "other"])',
    'context.trust == "trusted"',
    'context has acr && context.acr == "key"',
    "context has login_age && context.login_age > 900",
    "context has login_age && context.login_age <= 60 && context.login_age != 30",
    "context has calendar && context.calendar.frozen",
    "context has calendar && !context.calendar.closed",
    "context has applied_today && context.applied_today >= 3",
    "context has approvals && context.approvals >= 2",
    "context has signed && context.signed",
    "{of: context} == {of: context} && context.bound",
    'action in Action::"read"',
]


@st.composite
def policies(draw: st.DrawFn) -> str:
    effect = draw(st.sampled_from(["permit", "permit", "forbid"]))
    scope = ", ".join(draw(st.sampled_from(each)) for each in (WHO, WHAT, WHERE))
    one, other = draw(st.sampled_from(TESTS)), draw(st.sampled_from(TESTS))
    conditions = [
        "",
        f"when {{ {one} }}",
        f"unless {{ {one} }}",
        f"when {{ ({one}) && ({other}) }}",
        f"when {{ {one} }} unless {{ {other} }}",
        f"when {{ if {one} then {other} else !({other}) }}",
    ]
    return f"{effect} ({scope}) {draw(st.sampled_from(conditions))};"


@st.composite
def worlds(draw: st.DrawFn) -> list[Resource]:
    """Apps that are below each other, in an environment or in none, some without their labels, and what is theirs."""
    environments = [environment("prod", draw(st.booleans())), environment("dev", draw(st.booleans()))]
    apps: list[Resource] = []
    for name in draw(st.permutations([each[-1] for each in APPS])):
        above = [*draw(st.sets(st.sampled_from(apps), max_size=2))] if apps else []
        inside = draw(st.lists(st.sampled_from(environments), max_size=1))
        made = app(name, *above, *inside, labels=draw(st.sampled_from([(), ("tier=web",), ("tier=db", "x=y"), ("z",)])))
        apps.append(draw(st.sampled_from([made, made, made, replace(made, attributes=made.attributes[:2])])))
    keyspaces = [keyspace(draw(st.sampled_from(apps)), prefix) for prefix in ("shop:", "ship:", "bank:")]
    proposals = [
        Resource(
            ResourceType.PROPOSAL,
            f"p-{number}",
            (draw(st.sampled_from(apps)),),
            (
                ("breaker", ""),
                ("factors", ()),
                ("requester", draw(st.sampled_from(["https://issuer.example#vera", "https://issuer.example#nora"]))),
                ("risk", draw(st.sampled_from(["low", "high"]))),
            ),
        )
        for number in range(4)
    ]
    return [INSTALLATION, *apps, *keyspaces, *proposals]


@st.composite
def callers(draw: st.DrawFn) -> Caller:
    granted = st.tuples(st.sampled_from(ROLES), st.sampled_from(APPS))
    return replace(
        person(draw(st.sampled_from(["vera", "dana"]))),
        groups=draw(st.frozensets(st.sampled_from(GROUPS))),
        roles=draw(st.frozensets(st.sampled_from(ROLES))),
        grants=draw(st.one_of(st.just(frozenset[tuple[str, str]]()), st.frozensets(granted, max_size=3))),
        agent=draw(st.sampled_from(["", "copilot", "bot-1-x", "bot-2"])),
        actors=draw(st.sampled_from([(), ("bot",), ("x", "other")])),
        channel=draw(st.sampled_from([Channel.MCP, Channel.PAGES])),
        itself=draw(st.booleans()),
        binding=draw(st.sampled_from([Binding.BEARER, Binding.DPOP])),
        acr=draw(st.sampled_from(["", "key"])),
        authenticated_at=draw(st.sampled_from([0, *(int(NOW) - age for age in (0, 30, 60, 900, 901))])),
        within=draw(st.sampled_from(["", "", "", APPS[0]])),
        withheld=draw(st.sampled_from([(), (), (), ((ActionGroup.PROPOSE, "propose"),)])),
    )


class Windows(Calendar):
    """A calendar by which some things are frozen and others closed."""

    freezes_of: frozenset[str]
    windows_of: frozenset[str]

    def season(self, environment: str, apps: frozenset[str], at: float) -> Season:
        inside = apps | {environment}
        return Season(frozen=at >= NOW and bool(self.freezes_of & inside), closed=bool(self.windows_of & inside))


@st.composite
def surroundings(draw: st.DrawFn) -> Surroundings:
    named = st.frozensets(st.sampled_from(["prod", "dev", *APPS]), max_size=3)
    calendar = Windows(freezes_of=draw(named), windows_of=draw(named))
    return Surroundings(agents=Agents(trusted=("copilot", "bot*")), calendar=calendar)


@pytest.mark.parametrize("few", [0, 16], ids=["policies left out", "all policies asked"])
@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(policies(), min_size=1, max_size=12),
    resources=worlds(),
    asking=st.lists(callers(), min_size=1, max_size=3),
    around=surroundings(),
    counted=st.sampled_from([0, 3, 4]),
)
def test_the_engine_decides_as_cedar_does_with_everything_before_it(
    few: int, texts: list[str], resources: list[Resource], asking: list[Caller], around: Surroundings, counted: int
) -> None:
    text = "\n".join(f'@id("p{number}") {each}' for number, each in enumerate(texts))
    loaded = assemble(read_statements(Path("random.cedar"), text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_FEW", few)
        engine = Engine(loaded, lambda: NOW, around)
        for action, kind in ASKED.items():
            concerned = [each for each in resources if each.type is kind]
            for caller in asking:
                compare(loaded, engine, Question(caller, action, (), (), NOW), concerned, counted)


def compare(
    loaded: LoadedPolicies, engine: Engine, question: Question, resources: Sequence[Resource], counted: int
) -> None:
    """Single decisions, lists by an engine that knows the caller and by a new one, and what could be."""
    caller, action, around = question.caller, question.action, engine.surroundings
    context = tuple((name, counted > 0 if name == "signed" else counted) for name in COUNTED.get(action, ()))
    expected = [decide_plainly(loaded, question, each, dict(context), around) for each in resources]
    allowed = [each.allowed for each in expected]

    decided = [engine.decide(caller, action, each, context) for each in resources]

    assert [replace(each, error="") for each in decided] == expected
    assert engine.visible(caller, action, resources, context) == allowed
    assert Engine(loaded, lambda: NOW, around).visible(caller, action, resources, context) == allowed
    fresh = replace(caller, authenticated_at=int(NOW))
    assert engine.could(fresh, action) or not any(engine.visible(fresh, action, resources, context))
