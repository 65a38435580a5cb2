"""When a change by commit has worked: judged by what Argo CD says of the app, and by the branch's history."""

from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.errors import BadConfiguration, Refused
from arborgate.server.progress import judge_progress
from arborgate.server.settings import parse_settings
from arborgate.server.writers import Writers, check_writing
from arborgate.tools.change import Change, ChangeKind, Check, Precondition, Target
from tests.server.applier.cluster import StandInCluster

pytestmark = pytest.mark.anyio

SOURCE = {"repoURL": "https://git.example/shop", "path": "api", "targetRevision": "v1"}


def make_change(kind: str, patch: dict[str, Any]) -> Change:
    return Change(
        kind=ChangeKind.SET_REVISION,
        target=Target(
            app="main/argocd/api", cluster="shop", api="git", kind=kind, namespace="main", name="apps/api.yaml#api"
        ),
        summary="",
        precondition=Precondition(uid="", resource_version="", fields=(), digest=""),
        patch=patch,
        diff="",
        undo=None,
        check=Check(app="main/argocd/api", sync="Synced"),
    )


def make_app(*, revision: str = "v1", synced: str = "old", health: str = "Healthy", phase: str = "") -> dict[str, Any]:
    source = {**SOURCE, "targetRevision": revision}
    return {
        "spec": {"source": source},
        "status": {
            "health": {"status": health},
            "sync": {"status": "Synced", "revision": synced, "comparedTo": {"source": source}},
            **({"operationState": {"phase": phase}} if phase else {}),
        },
    }


APPLICATION = make_change("Application", {"spec": {"source": {"targetRevision": "v2"}}})
VALUES = make_change("File", {"values": {"image": {"tag": "2"}}})
HELD = {"kind": "File", "metadata": {}, "status": {"contains": ["ours", "after"]}}


def test_an_application_has_to_show_what_was_committed() -> None:
    progress, why = judge_progress(APPLICATION, "", make_app(), HELD)
    assert (progress, why) == ("waiting", "Argo CD has not taken the commit up yet.")
    assert judge_progress(APPLICATION, "", make_app(revision="v2"), HELD)[0] == "done"
    assert judge_progress(APPLICATION, "", make_app(revision="v2", health="Degraded"), HELD)[0] == "waiting"


def test_values_count_once_the_app_is_synced_to_a_commit_that_holds_them() -> None:
    assert judge_progress(VALUES, "", make_app(synced="before"), HELD)[0] == "waiting"
    for synced in ("ours", "after"):
        assert judge_progress(VALUES, "", make_app(synced=synced), HELD)[0] == "done"


def test_an_operation_that_failed_long_ago_says_nothing_about_a_commit() -> None:
    assert judge_progress(APPLICATION, "seen", make_app(revision="v2", phase="Failed"), HELD)[0] == "done"


async def test_without_credentials_for_git_nothing_is_read_or_written_there() -> None:
    writers = Writers(StandInCluster(), None)
    with pytest.raises(Refused, match="no credentials for Git"):
        await writers.read(APPLICATION.target)
    with pytest.raises(Refused, match="no credentials for Git"):
        await writers.rehearse(APPLICATION.target, {})


@pytest.mark.parametrize(
    ("delivery", "told"),
    [
        ({"name": "other"}, "there is no 'other'"),
        ({"name": "shop", "mode": "pull_request"}, "needs forge and api_url"),
    ],
)
def test_deliveries_that_could_never_work_refuse_to_start(delivery: dict[str, str], told: str) -> None:
    settings = parse_settings(
        {
            "git": {"repositories": [{"name": "shop", "url": "https://git.example/shop"}]},
            "applier": {"git": {"repositories": [{"password_file": "x", **delivery}]}},
        }
    )
    with pytest.raises(BadConfiguration, match=told):
        check_writing(settings.git, settings.applier.git)


def test_a_signing_key_that_could_not_be_used_refuses_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "signing"
    settings = parse_settings({"applier": {"git": {"signing_key_file": str(key)}}})
    with pytest.raises(BadConfiguration, match="no such file"):
        check_writing(settings.git, settings.applier.git)
    key.touch()
    check_writing(settings.git, settings.applier.git)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadConfiguration, match="ssh-keygen"):
        check_writing(settings.git, settings.applier.git)


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "shop", "url": "https://user:secret@git.example/shop"},
        {"name": "shop", "url": "http://git.example/shop"},
        {"name": "shop", "url": "file:///srv/git"},
        {"name": "shop", "url": "https://git.example/shop?x=1"},
        {"name": "Shop!", "url": "https://git.example/shop"},
    ],
)
def test_an_address_that_is_not_safe_refuses_to_start(entry: dict[str, str]) -> None:
    with pytest.raises(BadConfiguration, match=r"git\.repositories\.0"):
        parse_settings({"git": {"repositories": [entry]}})
