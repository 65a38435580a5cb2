"""The sample world: which apps there are, what their Git and registry hold, and which of it does not run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from .store import DEPLOYMENT, ROLLOUT, STATEFUL_SET, Kind

FILE = Path(__file__).with_name("world.yaml")
NAMESPACE = "argocd"
HEAD = "main"
PEOPLE = ("Ada Approver", "Dev Developer", "release-bot")

_KINDS = {kind.name: kind for kind in (DEPLOYMENT, ROLLOUT, STATEFUL_SET)}
_HOURS = (2.0, 170.0, 410.0, 700.0)
"""How long ago the newest, the second newest (and so on) version was deployed."""


class Syncing(StrEnum):
    """How an app is synced."""

    AUTOMATED = "automated"
    MANUAL = "manual"
    SELF_HEAL = "self-heal"


@dataclass(frozen=True, slots=True)
class Release:
    """One version of an app in Git: its commit (or chart version), its image, and hours since it was deployed."""

    version: str
    revision: str
    image: str
    hours_ago: float
    by: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A Helm chart: repository, name, and the image it runs."""

    repository: str
    name: str
    image: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A child app that its parent's Git has and the cluster does not take: the reason is the cluster's."""

    name: str
    wave: int
    message: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One app as the world has it. An app with `releases` runs a workload; one without has child apps instead.

    `deployed` counts the releases that were deployed, oldest first. `faults` are images that do not run, with what
    they say. `generated_by` is the ApplicationSet that owns the app, `generates` the sets that the app manages.
    """

    name: str
    parent: str
    environment: str
    team: str
    namespace: str
    syncing: Syncing
    wave: int = 0
    path: str = ""
    kind: Kind = DEPLOYMENT
    replicas: int = 1
    releases: tuple[Release, ...] = ()
    deployed: int = 0
    faults: Mapping[str, str] = field(default_factory=dict)
    redis: tuple[str, ...] = ()
    chart: Chart | None = None
    generated_by: str = ""
    generates: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def current(self) -> Release:
        return self.releases[self.deployed - 1]

    def release(self, revision: str) -> Release | None:
        """The release that a branch, a commit (or its beginning) or a chart version means."""
        if not self.releases:
            return None
        if revision in (HEAD, "HEAD", ""):
            return self.releases[-1]
        exact = next((one for one in self.releases if revision in (one.revision, one.version)), None)
        short = [one for one in self.releases if len(revision) >= 7 and one.revision.startswith(revision)]
        return exact or (short[0] if len(short) == 1 else None)


@dataclass(frozen=True, slots=True)
class World:
    """All apps by name, parents before their children."""

    repository: str
    apps: Mapping[str, Planned]

    def children(self, name: str) -> list[Planned]:
        """The apps whose manifests are in this app's Git; generated ones are not."""
        return [app for app in self.apps.values() if app.parent == name and not app.generated_by]

    def pulls(self, image: str) -> bool:
        """Whether the registry has this image."""
        return any(release.image == image for app in self.apps.values() for release in app.releases)


def read_world(file: Path = FILE) -> World:
    """The world that the file describes."""
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    apps = {app.name: app for app in (*_plan_parents(raw), *_plan_services(raw), *_plan_generated(raw))}
    return World(raw["repository"], apps)


def commit_of(path: str, version: str) -> str:
    """The commit that brought a version: the same in every run."""
    return hashlib.sha1(f"{path}@{version}".encode(), usedforsecurity=False).hexdigest()


def _plan_parents(raw: Mapping[str, Any]) -> Iterator[Planned]:
    sets = [(one["parent"], one["set"]) for one in raw["generated"]]
    missing = [(one.pop("parent"), Missing(**one)) for one in map(dict, raw["missing"])]
    yield Planned("estate", "", "", "platform", NAMESPACE, Syncing.AUTOMATED, path="estate")
    for environment, rules in raw["environments"].items():
        syncing = Syncing(rules["parents"])
        yield Planned(environment, "estate", environment, "platform", NAMESPACE, syncing, path=f"estate/{environment}")
        teams = {service["team"] for service in raw["services"]}
        if environment == "production":
            teams.add("platform")
        for team in sorted(teams):
            name = team + rules["suffix"]
            yield Planned(
                name,
                environment,
                environment,
                team,
                NAMESPACE,
                syncing,
                path=f"{team}/{environment}",
                generates=tuple(each for parent, each in sets if parent == name),
                missing=tuple(each for parent, each in missing if parent == name),
            )


def _plan_services(raw: Mapping[str, Any]) -> Iterator[Planned]:
    for environment, rules in raw["environments"].items():
        for service in raw["services"]:
            name, team = service["name"] + rules["suffix"], service["team"]
            home = f"{team}/{service['name'].removeprefix(f'{team}-')}"
            path = f"{home}/overlays/{environment}"
            image = f"registry.example.com/{service['name'].replace('-', '/', 1)}"
            versions = service["versions"]
            waiting = environment in service.get("waiting", ())
            prefix = "" if environment == "production" else f"{environment}:"
            yield Planned(
                name,
                team + rules["suffix"],
                environment,
                team,
                team + rules["suffix"],
                Syncing(rules["children"]),
                wave=service.get("wave", 0),
                path=path,
                kind=_KINDS[service.get("kind", "Deployment")],
                replicas=rules["replicas"],
                releases=_release(versions, path, image, home),
                deployed=len(versions) - waiting,
                faults=_find_faults(raw, name, image),
                redis=tuple(f"main:{prefix}{each}" for each in service.get("redis", ())),
            )


def _plan_generated(raw: Mapping[str, Any]) -> Iterator[Planned]:
    for one in raw["generated"]:
        chart = Chart(**one["chart"]) if "chart" in one else None
        team = "platform" if chart else "shop"
        path = "" if chart else "shop/web/overlays/preview"
        for name in one["apps"]:
            image = chart.image if chart else "registry.example.com/shop/web"
            releases = _release(one["versions"], path, image, path)
            if chart:
                releases = tuple(
                    Release(each.version, each.version, each.image, each.hours_ago, each.by) for each in releases
                )
            yield Planned(
                name,
                one["parent"],
                one["environment"],
                team,
                name,
                Syncing.AUTOMATED,
                path=path,
                releases=releases,
                deployed=len(releases),
                replicas=2 if chart else 1,
                chart=chart,
                generated_by=one["set"],
            )


def _release(versions: list[str], path: str, image: str, home: str) -> tuple[Release, ...]:
    """The releases of an app at a path; one commit brings a version to all environments of what has this home."""
    spread = sum(path.encode()) % 90 / 10  # so that not everything was deployed in the same minute
    return tuple(
        Release(
            str(version),
            commit_of(home, str(version)),
            f"{image}:{version}",
            _HOURS[len(versions) - 1 - at] + spread,
            PEOPLE[(len(path) + at) % len(PEOPLE)],
        )
        for at, version in enumerate(versions)
    )


def _find_faults(raw: Mapping[str, Any], name: str, image: str) -> dict[str, str]:
    return {f"{image}:{one['version']}": one["says"] for one in raw["faults"] if one["app"] == name}
