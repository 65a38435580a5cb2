"""Facts: what they tell of comes back the same, small, by a name that follows from what they say."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given

from arborgate.policies.agents import Agents
from arborgate.policies.calendar import Calendar
from arborgate.policies.facts import (
    Facts,
    Unreadable,
    altered,
    caller_from,
    describe_caller,
    describe_resource,
    describe_surroundings,
    digest_facts,
    resource_from,
    surroundings_from,
)
from arborgate.policies.model import ActionGroup, Caller, Resource
from arborgate.policies.surroundings import Surroundings
from tests.policies.random_policies import callers, resources
from tests.policies.writing import app, environment, person


def read_back(facts: Facts) -> dict[str, object]:
    """As they are after having been a line of a file."""
    told = orjson.loads(orjson.dumps(dict(facts.told)))
    assert digest_facts(told) == facts.digest
    assert isinstance(told, dict)
    return told


def rebuild(facts: Facts) -> Resource:
    above = {each.digest: each for each in facts.above}
    return resource_from(read_back(facts), lambda digest: rebuild(above[digest]))


@given(callers())
def test_a_caller_comes_back_the_same(caller: Caller) -> None:
    caller = replace(caller, withheld=((ActionGroup.PROPOSE, "propose"),))

    assert caller_from(read_back(describe_caller(caller))) == caller


@given(resources())
def test_a_resource_comes_back_the_same_with_all_above_it(resource: Resource) -> None:
    assert rebuild(describe_resource(resource)) == resource


def test_surroundings_come_back_the_same() -> None:
    freeze = {"name": "holidays", "from": "12-20 18:00", "until": "01-02"}
    calendar = Calendar.model_validate({"zone": "Europe/Berlin", "freezes": [freeze]})
    around = Surroundings(Agents(trusted=("ide-*",)), calendar)

    assert surroundings_from(read_back(describe_surroundings(around))) == around


def test_a_session_is_no_fact() -> None:
    assert b"s3ss10n" not in orjson.dumps(dict(describe_caller(replace(person(), session="s3ss10n")).told))


def test_the_same_facts_have_the_same_digest_and_others_another() -> None:
    dev = environment("dev", strict=False)

    assert describe_resource(app("a", dev)).digest == describe_resource(app("a", environment("dev", False))).digest
    assert describe_resource(app("a", dev)).digest != describe_resource(app("a", environment("dev", True))).digest
    assert describe_caller(person("vera")).digest != describe_caller(person("vera", "viewer")).digest
    assert len(describe_caller(person()).digest) == 32


def test_what_is_redacted_is_named() -> None:
    resource = app("a", environment("dev", strict=False), labels=("key=hunter2", "team=web"))

    facts = describe_resource(resource, lambda text: text.replace("hunter2", "(redacted)"))

    assert altered(facts.told) == ("labels",)
    assert rebuild(facts).attributes[2] == ("labels", ("key=(redacted)", "team=web"))
    assert altered(describe_resource(resource).told) == ()
    assert altered(describe_caller(person("vera"), lambda _: "(redacted)").told) == ("name",)
    assert altered(describe_resource(resource, lambda text: f"{text}!").told)[:2] == ("cluster", "environment")


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"kind": "resource"},
        {"channel": "carrier-pigeon"},
        {"groups": "staff"},
        {"binding": 7},
        {"grants": [1]},
    ],
)
def test_facts_of_another_kind_or_version_are_refused(changes: dict[str, object]) -> None:
    told = {**describe_caller(person()).told, **changes}

    with pytest.raises(Unreadable):
        caller_from(told)


def test_surroundings_that_this_version_does_not_know_are_refused() -> None:
    with pytest.raises(Unreadable, match="the settings of then"):
        surroundings_from({"kind": "surroundings", "v": 1, "agents": {"feared": ["x"]}})
