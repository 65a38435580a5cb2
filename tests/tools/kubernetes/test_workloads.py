"""The indexes of workloads and warnings."""

from typing import Any

import pytest

from arborgate.tools.kubernetes.workloads import (
    EVENT_OBJECTS,
    EVENTS_PER_OBJECT,
    WarningEvent,
    Warnings,
    Workload,
    WorkloadCondition,
    Workloads,
    parse_warning,
    parse_workload,
)

NOON = 1_795_521_600.0
"""2026-11-24T12:00:00Z."""


def _warning(name: str, *, kind: str = "Pod", uid: str = "", ago: float = 0, namespace: str = "shop") -> WarningEvent:
    return WarningEvent(uid or f"{name}-{ago}", kind, namespace, name, "BackOff", "again", 1, "", NOON - ago)


def test_a_deployment_is_parsed_whole() -> None:
    raw = {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "9"},
        "spec": {
            "replicas": 3,
            "paused": True,
            "template": {
                "spec": {
                    "initContainers": [{"image": "migrate:1"}],
                    "containers": [{"image": "web:2"}, {"image": "log:1"}],
                }
            },
        },
        "status": {
            "readyReplicas": 1,
            "updatedReplicas": 2,
            "conditions": [{"type": "Available", "status": "False", "reason": "MinimumReplicas", "message": "m"}],
        },
    }
    assert parse_workload("alpha", "Deployment", raw) == Workload(
        cluster="alpha",
        kind="Deployment",
        namespace="shop",
        name="web",
        uid="u",
        resource_version="9",
        desired=3,
        ready=1,
        updated=2,
        paused=True,
        images=("migrate:1", "web:2", "log:1"),
        conditions=(WorkloadCondition("Available", "False", "MinimumReplicas", "m", ""),),
    )


def test_a_daemon_set_counts_nodes() -> None:
    status = {"desiredNumberScheduled": 5, "numberReady": 4, "updatedNumberScheduled": 3}
    workload = parse_workload("alpha", "DaemonSet", {"metadata": {"name": "log"}, "status": status})
    assert (workload.desired, workload.ready, workload.updated) == (5, 4, 3)


def test_replicas_that_nobody_gave_are_one() -> None:
    assert parse_workload("alpha", "StatefulSet", {"metadata": {"name": "db"}}).desired == 1


def test_a_list_replaces_one_kind_of_one_cluster() -> None:
    index = Workloads()
    for cluster, kind in (("alpha", "Deployment"), ("alpha", "StatefulSet"), ("beta", "Deployment")):
        index.put(parse_workload(cluster, kind, {"metadata": {"name": "web", "namespace": "shop"}}))
    index.replace("alpha", "Deployment", [])
    assert index.get("alpha", "Deployment", "shop", "web") is None
    assert index.get("alpha", "StatefulSet", "shop", "web") is not None
    assert index.get("beta", "Deployment", "shop", "web") is not None


@pytest.mark.parametrize("part", ["web-6d4cf56db6-x2x9z", "web-6d4cf56db6", "web-2", "web-x2x9z"])
def test_a_workload_is_warned_of_through_what_was_made_for_it(part: str) -> None:
    warnings = Warnings(now=lambda: NOON)
    warnings.put("alpha", _warning(part))
    assert [event.name for event in warnings.about("alpha", "Deployment", "shop", "web")] == [part]


@pytest.mark.parametrize("other", ["web-api-6d4cf56db6-x2x9z", "webs-2", "my-web-2", "web-", "web-api"])
def test_a_workload_is_not_warned_of_through_another_ones_pods(other: str) -> None:
    warnings = Warnings(now=lambda: NOON)
    warnings.put("alpha", _warning(other))
    assert warnings.about("alpha", "Deployment", "shop", "web") == []


def test_warnings_are_of_one_kind_namespace_and_cluster() -> None:
    warnings = Warnings(now=lambda: NOON)
    warnings.put("alpha", _warning("web", kind="Deployment"))
    assert len(warnings.about("alpha", "Deployment", "shop", "web")) == 1
    assert warnings.about("alpha", "StatefulSet", "shop", "web") == []
    assert warnings.about("alpha", "Deployment", "other", "web") == []
    assert warnings.about("beta", "Deployment", "shop", "web") == []


def test_only_the_newest_warnings_of_an_object_are_kept_newest_first() -> None:
    warnings = Warnings(now=lambda: NOON)
    for ago in range(20, 0, -1):
        warnings.put("alpha", _warning("web", kind="Deployment", ago=ago))
    found = warnings.about("alpha", "Deployment", "shop", "web")
    assert [NOON - event.seconds for event in found] == [1, 2, 3, 4, 5][:EVENTS_PER_OBJECT]


def test_a_warning_that_is_told_again_is_one_warning() -> None:
    warnings = Warnings(now=lambda: NOON)
    warnings.put("alpha", _warning("web-1", uid="same", ago=50))
    warnings.put("alpha", _warning("web-1", uid="same", ago=10))
    assert [NOON - event.seconds for event in warnings.about("alpha", "StatefulSet", "shop", "web")] == [10]


def test_warnings_expire_after_an_hour() -> None:
    clock = [NOON]
    warnings = Warnings(now=lambda: clock[0])
    warnings.put("alpha", _warning("web-1"))
    clock[0] += 3_601
    assert warnings.about("alpha", "StatefulSet", "shop", "web") == []
    warnings.put("alpha", _warning("web-1", ago=1))
    assert warnings.about("alpha", "StatefulSet", "shop", "web") == []


def test_a_cluster_full_of_warnings_stays_within_bounds() -> None:
    warnings = Warnings(now=lambda: NOON)
    for number in range(EVENT_OBJECTS + 5):
        warnings.put("alpha", _warning(f"web-{number}"))
    found = warnings.about("alpha", "StatefulSet", "shop", "web")
    assert len(found) == EVENT_OBJECTS
    assert "web-0" not in {event.name for event in found}


def test_a_warning_that_is_deleted_is_gone() -> None:
    warnings = Warnings(now=lambda: NOON)
    event = _warning("web-1")
    warnings.put("alpha", event)
    warnings.remove("alpha", event)
    assert warnings.about("alpha", "StatefulSet", "shop", "web") == []


def test_a_list_of_warnings_replaces_those_of_its_cluster() -> None:
    warnings = Warnings(now=lambda: NOON)
    warnings.put("alpha", _warning("web-1"))
    warnings.put("beta", _warning("web-1"))
    warnings.replace("alpha", [_warning("web-2")])
    assert [event.name for event in warnings.about("alpha", "StatefulSet", "shop", "web")] == ["web-2"]
    assert [event.name for event in warnings.about("beta", "StatefulSet", "shop", "web")] == ["web-1"]


@pytest.mark.parametrize(
    ("times", "at"),
    [
        ({"lastTimestamp": "2026-11-24T11:00:00Z"}, "2026-11-24T11:00:00Z"),
        ({"eventTime": "2026-11-24T11:00:00.123456Z"}, "2026-11-24T11:00:00.123456Z"),
        (
            {"series": {"lastObservedTime": "2026-11-24T11:30:00Z", "count": 4}, "eventTime": "x"},
            "2026-11-24T11:30:00Z",
        ),
    ],
)
def test_a_warning_is_dated_by_its_last_time(times: dict[str, Any], at: str) -> None:
    about = {"kind": "Pod", "namespace": "shop", "name": "web-1"}
    event = parse_warning(
        {"metadata": {"name": "e", "uid": "u"}, "involvedObject": about, "reason": "BackOff", **times}
    )
    assert (event.at, event.kind, event.name, event.reason) == (at, "Pod", "web-1", "BackOff")
    assert event.count == times.get("series", {}).get("count", 1)


def test_a_warning_without_a_time_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="isoformat"):
        parse_warning({"metadata": {"name": "e"}})
