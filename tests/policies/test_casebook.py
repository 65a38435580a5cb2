"""Case files: a mistake in one is refused with its file, line and field."""

from pathlib import Path

import pytest

from arborgate.policies.agents import Agents
from arborgate.policies.casebook import NOW, read_cases
from arborgate.policies.errors import BadConfiguration
from arborgate.policies.model import Action, Binding, Channel
from arborgate.policies.surroundings import Surroundings

FILE = Path("cases/some.yaml")

GOOD = """\
world:
  environments: {prod: {strict: true}}
  apps:
    main/argocd/shop: {environment: prod}
    main/argocd/api: {environment: prod, parent: main/argocd/shop, labels: {team: shop}}
  keyspaces: {"main:shop:": {app: main/argocd/api}}
  proposals: {p-1: {app: main/argocd/api, requester: dana, risk: high}}
people:
  dana: {roles: [developer], login_age: 60}
  https://idp.example#42: {groups: [staff], channel: pages, login_age: null}
cases:
  - who: [dana, https://idp.example#42]
    may: [app:read, app:list]
    of: [App::main/argocd/api, Environment::prod]
    by: some-policy
    why: Because.
  - who: dana
    may_not: proposal:approve
    of: Proposal::p-1
    by: nothing
    why: Because.
"""


def test_a_case_is_read_once_for_each_person_action_and_resource() -> None:
    cases = read_cases(FILE, GOOD)

    assert len(cases) == 2 * 2 * 2 + 1
    assert [case.location.line for case in cases] == [12] * 8 + [17]
    assert (cases[0].action, cases[0].allowed, cases[0].by) == (Action.APP_READ, True, ("some-policy",))
    assert (cases[-1].allowed, cases[-1].by) == (False, ())


def test_people_resources_and_their_places_are_as_declared() -> None:
    cases = read_cases(FILE, GOOD)
    dana, other = cases[0].caller, cases[4].caller
    api = cases[0].resource
    asked = cases[-1].resource

    assert (other.key, other.groups, other.channel, other.authenticated_at) == (
        "https://idp.example#42",
        frozenset({"staff"}),
        Channel.PAGES,
        0,
    )
    assert [parent.uid for parent in api.parents] == ["App::main/argocd/shop", "Environment::prod"]
    assert dict(api.attributes)["labels"] == ("team=shop",)
    assert dict(asked.attributes) == {
        "breaker": "",
        "factors": (),
        "requester": dana.key,
        "risk": "high",
    }


def test_what_is_known_of_a_caller_can_be_declared() -> None:
    declared = "{grants: {viewer: [main/argocd/shop]}, itself: true, binding: dpop, acr: key, "
    dana, other = (read_cases(FILE, GOOD.replace("dana: {", f"dana: {declared}"))[number].caller for number in (0, 4))

    assert (dana.grants, dana.itself, dana.acr) == (frozenset({("viewer", "main/argocd/shop")}), True, "key")
    assert (dana.binding, other.binding) == (Binding.DPOP, Binding.SESSION)


def test_agents_and_the_calendar_are_declared_as_in_the_settings() -> None:
    declared = "world:\n  agents: {trusted: [ide-*], forbidden: [bot]}\n  calendar: {zone: Europe/Berlin}"
    plain, other = (read_cases(FILE, GOOD.replace("world:", world, 1))[0] for world in ("world:", declared))

    assert plain.surroundings == Surroundings(agents=Agents(trusted=("*",)))
    assert other.surroundings.agents == Agents(trusted=("ide-*",), forbidden=("bot",))
    assert other.surroundings.calendar.zone == "Europe/Berlin"


def test_a_case_is_asked_at_its_own_moment_or_at_that_of_its_file() -> None:
    own = GOOD.replace("    may_not:", "    at: 2026-12-24T12:00:00+01:00\n    may_not:")
    cases = [*read_cases(FILE, own), *read_cases(FILE, own + "at: 2026-12-24T00:00:00Z\n")]

    assert [case.at for case in cases] == [NOW] * 8 + [1_798_110_000] + [1_798_070_400] * 8 + [1_798_110_000]
    assert [case.at - case.caller.authenticated_at for case in cases if case.caller.authenticated_at] == [60] * 10
    assert cases[8].title.endswith("at 2026-12-24 11:00 UTC")


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        (
            "why: Because.\n  - who",
            "why: Because.\n    at: 2026-12-24T12:00:00\n  - who",
            17,
            "should have timezone info",
        ),
        (
            "people:",
            "  calendar: {freezes: [{name: x, from: 12-20, until: 12-21, fromm: 12-20}]}\npeople:",
            8,
            "unknown field; did you mean 'from'?",
        ),
        (
            "people:",
            "  calendar: {freezes: [{name: x, from: 12-20, until: 12-21, environments: [pro]}]}\npeople:",
            8,
            "x: 'pro' is not an environment; did you mean 'prod'?",
        ),
        ("    why: Because.\n  - who", "    wy: x\n    why: Because.\n  - who", 16, "cases.0.wy: unknown field"),
        ("    by: nothing", "    on: x\n    by: nothing", 17, "Keys should be strings"),
        ("    why: Because.\n  - who", "    why: ''\n  - who", 16, "cases.0.why: String should have at least 1"),
        (
            "may_not: proposal:approve",
            "may_not: proposal:aprove",
            18,
            "cases.1.may_not.0: there is no action 'proposal:aprove'; did you mean 'proposal:approve'?",
        ),
        ("may_not: proposal:approve", "may: proposal:approve", 17, "something must permit"),
        ("    may_not: proposal:approve\n", "", 17, "a case has either `may` or `may_not`"),
        ("  - who: dana\n", "  - who: nobody\n", 17, "who.0: 'nobody' is not among the people"),
        ("of: Proposal::p-1", "of: Proposal::p-2", 19, "of.0: 'Proposal::p-2' is not in the world"),
        ("{strict: true}", "{strict: perhaps}", 2, "world.environments.prod.strict: Input should be a valid boolean"),
        (
            "parent: main/argocd/shop",
            "parent: main/argocd/none",
            5,
            "world.apps.main/argocd/api.parent: 'main/argocd/none'",
        ),
        ("parent: main/argocd/shop", "parent: main/argocd/api", 5, "'main/argocd/api' is above itself"),
        ("{environment: prod}", "{environment: dev}", 4, "'dev' is not among the environments"),
        ("requester: dana", "requester: dora", 7, "world.proposals.p-1.requester: 'dora' is not among the people"),
        (
            "dana: {",
            "dana: {grants: {viewer: [a/b/c]}, ",
            9,
            "people.dana.grants.viewer: 'a/b/c' is not among the apps",
        ),
        ("main/argocd/shop: {", "shop: {", 4, "String should match pattern"),
        ("world:\n", "world: [\n", 3, "is not YAML"),
        (GOOD, "", 1, "should hold world, people, cases"),
    ],
)
def test_a_mistake_in_a_case_file_is_refused_with_its_line(old: str, new: str, line: int, told: str) -> None:
    text = GOOD.replace(old, new)
    assert text != GOOD

    with pytest.raises(BadConfiguration) as caught:
        read_cases(FILE, text)

    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"{FILE}:{line}:")
    assert told in first
