"""The app tools' results as text: the same facts, for clients that show a model only the text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from ..promotion.story import Rung
from ..tables import align
from ..text import quote, quote_name
from ..tool import join_lines
from .results import (
    AppDetail,
    AppList,
    Deploy,
    Diagnosis,
    Failure,
    Fresh,
    Happening,
    ManagedRow,
    NextCall,
    Problem,
    Resources,
    Source,
    TreeRows,
)


def render_list(result: AppList) -> str:
    return join_lines(
        [
            f"{result.total} apps{_counts(result.health, ': ')}; worst first.",
            *align(
                (
                    row.health,
                    row.sync,
                    row.app,
                    row.environment,
                    quote_name(row.project),
                    " ".join(filter(None, (_below(row.failing_below), quote(row.message)))),
                )
                for row in result.apps
            ),
            f"Next page: cursor {result.cursor}" if result.cursor else None,
            *_freshness(result.fresh),
            result.cut,
        ]
    )


def render_tree(result: TreeRows) -> str:
    return join_lines(
        [
            *align(
                (
                    "  " * row.depth + row.app,
                    row.health,
                    row.sync,
                    row.environment,
                    f"+{row.folded} below" if row.folded else None,
                    _below(row.failing_below),
                )
                for row in result.rows
            ),
            *_freshness(result.fresh),
            result.cut,
        ]
    )


def render_detail(result: AppDetail) -> str:
    return join_lines(
        [
            f"{result.app}: {result.health}, {result.sync} at {quote_name(result.revision)}",
            _line("Says", quote(result.message)),
            f"In {result.environment}, wave {result.wave}",
            f"Project {quote_name(result.project)}, deployed to {quote_name(result.destination)}",
            f"Automated: {', '.join(result.automated) or 'no'}",
            _line("Parent", f"{result.parent} (by {result.parent_by})" if result.parent else None),
            _line("Children", _children(result)),
            _line("Deepest failing", result.deepest_failing),
            _line("Deleting since", result.deleting_since),
            _line("Labels", _pairs(result.labels)),
            *(_source(source) for source in result.sources),
            _line("Images", ", ".join(map(quote_name, result.images))),
            _happened("Operation", [result.operation] if result.operation else []),
            _happened("Conditions", result.conditions),
            _section("History", (_deploy(deploy) for deploy in result.history)),
            _line("Resources", _resources(result.resources)),
            *_managed(result.resources.shown),
            _line("Promoted", quote(result.promoted)),
            _section("Elsewhere", (_rung(rung) for rung in result.elsewhere)),
            _line("Owns in Redis", ", ".join(map(quote_name, result.owns.redis))),
            _line("Owns routes", ", ".join(map(quote_name, result.owns.routes))),
            _line("Catalog entity", quote_name(result.owns.entity)),
            _line("Documents", ", ".join(map(quote_name, result.owns.documents))),
            _problems(result.findings),
            *_freshness([result.fresh]),
            result.cut,
        ]
    )


def _rung(rung: Rung) -> str:
    same = "the same" if rung.same else "another version"
    return f"{rung.environment}: {rung.app} {rung.health} at {quote_name(rung.revision)}: {same}"


def render_diagnosis(result: Diagnosis) -> str:
    return join_lines(
        [
            result.verdict,
            f"{result.app} itself: {result.health}, {result.sync}",
            *(_failure(failure) for failure in result.failing),
            _problems(result.findings),
            _section("Look at next", (_call(call) for call in result.next)),
            *_freshness(result.fresh),
            result.cut,
        ]
    )


def _failure(failure: Failure) -> str:
    return join_lines(
        [
            f"Failing: {failure.app} ({failure.environment}): {failure.health}, {failure.sync}",
            _line("  path", " > ".join(failure.path) if len(failure.path) > 1 else None),
            _line("  says", quote(failure.message)),
            _happened("  operation", [failure.operation] if failure.operation else []),
            _happened("  conditions", failure.conditions),
            *_managed(failure.resources),
            *align(
                (
                    "  workload",
                    quote_name(row.kind),
                    quote_name(row.name),
                    f"{row.ready}/{row.replicas} ready",
                    quote(row.message),
                )
                for row in failure.workloads
            ),
            _happened("  events", failure.events),
            _line("  last deploy", _deploy(failure.last_deploy) if failure.last_deploy else None),
        ]
    )


def _children(result: AppDetail) -> str | None:
    children = result.children
    if not children.total:
        return None
    failing = f"; failing: {', '.join(children.failing)}" if children.failing else ""
    return f"{children.total}{_counts(children.health, ', ')}{failing}"


def _resources(resources: Resources) -> str:
    return f"{resources.total}{_counts(resources.health, ', ')}, {resources.out_of_sync} OutOfSync"


def _source(source: Source) -> str:
    parts = [
        quote_name(source.repo),
        quote_name(source.path),
        source.chart and f"chart {quote_name(source.chart)}",
        f"at {quote_name(source.target_revision)}",
        *(f"image {quote_name(image)}" for image in source.images),
        _pairs(source.parameters),
    ]
    return f"Source: {' '.join(filter(None, parts))}"


def _managed(rows: Sequence[ManagedRow]) -> list[str]:
    return align(
        ("  resource", quote_name(row.kind), quote_name(row.name), row.health, row.sync, quote(row.message))
        for row in rows
    )


def _deploy(deploy: Deploy) -> str:
    by = f" by {quote_name(deploy.by)}" if deploy.by else ""
    return f"{deploy.id}: {quote_name(deploy.revision)} at {deploy.at}{by}"


def _happened(title: str, happenings: Sequence[Happening]) -> str | None:
    return _section(title, (f"{quote_name(each.type)} {each.at} {quote(each.message)}".rstrip() for each in happenings))


def _problems(findings: Sequence[Problem]) -> str | None:
    return _section(
        "Findings",
        (
            f"{each.app}: {each.kind}: {each.message} Way out: {each.way_out}"
            + (f" About: {', '.join(each.about)}" if each.about else "")
            for each in findings
        ),
    )


def _call(call: NextCall) -> str:
    return f"{call.tool} {json.dumps(call.arguments)}: {call.why}"


def _pairs(pairs: Mapping[str, str]) -> str:
    return " ".join(f"{quote_name(name)}={quote_name(value)}" for name, value in pairs.items())


def _counts(counts: Mapping[str, int], lead: str) -> str:
    return lead + ", ".join(f"{count} {name}" for name, count in counts.items()) if counts else ""


def _below(failing: str | None) -> str | None:
    return f"failing below: {failing}" if failing else None


def _line(title: str, value: str | None) -> str | None:
    return f"{title}: {value}" if value else None


def _section(title: str, lines: Iterable[str]) -> str | None:
    """The title and the lines under it, indented; None when there is no line."""
    indent = " " * (len(title) - len(title.lstrip()) + 2)
    told = [f"{indent}{line}" for line in lines]
    return join_lines([f"{title}:", *told]) if told else None


def _freshness(freshness: Sequence[Fresh]) -> list[str]:
    return [
        f"{each.cluster} seen {each.age_seconds:g} s ago at version {each.version}"
        + (" — STALE: older than the platform allows, the live state may differ." if each.stale else "")
        for each in freshness
    ]
