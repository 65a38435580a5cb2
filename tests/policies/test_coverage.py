"""Coverage: what the cases look at, and which changes to the policies no case would notice."""

from pathlib import Path

import pytest

from arborgate.policies.coverage import Coverage, Mutation, find_survivors, measure_coverage
from arborgate.policies.loader import Folder
from tests.policies.writing import read_alone, write_policies

WORLD = """\
world:
  environments: {prod: {strict: true}, dev: {}}
  apps:
    main/argocd/shop: {environment: prod}
    main/argocd/toys: {environment: dev}
  proposals: {of-dana: {app: main/argocd/toys, requester: dana}}
people:
  vera: {roles: [viewer]}
  dana: {roles: [developer]}
  bert: {agent: bot, roles: [viewer]}
cases:
"""

READ = '@id("read")\npermit (principal in Role::"viewer", action == Action::"app:read", resource)'


def case(who: str, may: str, of: str, by: str, action: str = "app:read") -> str:
    return f"  - {{who: {who}, {may}: '{action}', of: '{of}', by: {by}, why: because}}\n"


def read(folder: Path, policies: str, *cases: str) -> Folder:
    write_policies(folder, policies)
    (folder / "cases").mkdir(exist_ok=True)
    (folder / "cases/all.yaml").write_text(WORLD + "".join(cases))
    return read_alone(folder)


def covered(folder: Folder) -> list[Coverage]:
    return measure_coverage(folder.statements, folder.cases)


def survivors(folder: Folder) -> list[tuple[Mutation, int, int, int]]:
    found = find_survivors(folder.statements, folder.cases)
    return [
        (each.mutation, each.passage.location.line, each.passage.location.column, each.passage.width) for each in found
    ]


SHOP, TOYS = "App::main/argocd/shop", "App::main/argocd/toys"


def test_a_policy_is_reached_by_the_cases_that_it_decides(tmp_path: Path) -> None:
    folder = read(
        tmp_path / "set", f"{READ};", case("vera", "may", SHOP, "read"), case("dana", "may_not", SHOP, "nothing")
    )

    assert [(each.policy, each.reached) for each in covered(folder)] == [("read", 1)]


def test_a_permit_is_not_reached_where_a_forbid_decides(tmp_path: Path) -> None:
    folder = read(
        tmp_path / "set",
        f'{READ};\n@id("never")\nforbid (principal, action, resource);',
        case("vera", "may_not", SHOP, "never"),
    )

    assert [(each.policy, each.reached) for each in covered(folder)] == [("read", 0), ("never", 1)]


def test_a_condition_is_seen_both_ways_where_it_alone_makes_the_difference(tmp_path: Path) -> None:
    policy = f'{READ}\nwhen {{ context.strict }}\nunless {{ context.agent == "bot" }};'
    both = read(
        tmp_path / "set",
        policy,
        case("vera", "may", SHOP, "read"),
        case("vera", "may_not", TOYS, "nothing"),
        case("bert", "may_not", TOYS, "nothing"),
    )

    (found,) = covered(both)

    # Both conditions keep the bot from the toys, so neither of them alone does.
    assert [(each.held, each.failed) for each in found.conditions] == [(1, 1), (1, 0)]
    assert [each.passage.location.line for each in found.conditions] == [3, 4]


def test_what_fails_for_one_policy_is_counted_for_the_others(tmp_path: Path) -> None:
    guarded = (
        '@id("mine")\npermit (principal, action, resource)\n'
        "when { resource has requester }\nwhen { resource.requester == principal.key };"
    )
    # Without the first condition, the second can't be decided for an app.
    folder = read(
        tmp_path / "set",
        f"{READ};\n{guarded}",
        case("vera", "may", SHOP, "read"),
        case("dana", "may", "Proposal::of-dana", "mine", "proposal:read"),
        case("vera", "may_not", "Proposal::of-dana", "nothing", "proposal:read"),
    )

    read_policy, mine = covered(folder)

    assert read_policy.reached == 1
    assert [(each.held, each.failed) for each in mine.conditions] == [(1, 0), (1, 1)]


def test_nothing_survives_where_each_part_has_a_case(tmp_path: Path) -> None:
    folder = read(
        tmp_path / "set",
        f"{READ}\nwhen {{ context.strict }};",
        case("vera", "may", SHOP, "read"),
        case("vera", "may_not", TOYS, "nothing"),
        case("dana", "may_not", SHOP, "nothing"),
    )

    assert survivors(folder) == []


@pytest.mark.parametrize(
    ("left_out", "survivor"),
    [
        (0, (Mutation.POLICY_REMOVED, 1, 1, 11)),
        (1, (Mutation.CONDITION_REMOVED, 3, 8, 14)),
        (2, (Mutation.SCOPE_WIDENED, 2, 9, 27)),
    ],
)
def test_what_only_the_missing_case_would_notice_survives(
    left_out: int, survivor: tuple[Mutation, int, int, int], tmp_path: Path
) -> None:
    cases = [
        case("vera", "may", SHOP, "read"),
        case("vera", "may_not", TOYS, "nothing"),
        case("dana", "may_not", SHOP, "nothing"),
    ]
    del cases[left_out]

    assert survivor in survivors(read(tmp_path / "set", f"{READ}\nwhen {{ context.strict }};", *cases))


def test_one_of_a_list_that_no_case_needs_survives(tmp_path: Path) -> None:
    policy = (
        '@id("read")\npermit (principal, action in [Action::"app:read", Action::"app:list"], resource)\n'
        'when { principal in [Role::"viewer", Role::"auditor"] };'
    )
    folder = read(tmp_path / "set", policy, case("vera", "may", SHOP, "read"), case("dana", "may_not", SHOP, "nothing"))

    assert survivors(folder) == [
        (Mutation.LISTED_REMOVED, 2, 51, 18),
        (Mutation.LISTED_REMOVED, 3, 38, 15),
    ]


def test_one_half_of_a_condition_that_no_case_needs_survives_at_its_place(tmp_path: Path) -> None:
    folder = read(
        tmp_path / "set",
        f'{READ}\nunless {{ context.strict && context.agent == "bot" }};',
        case("bert", "may_not", SHOP, "nothing"),
        case("vera", "may", SHOP, "read"),
        case("dana", "may_not", TOYS, "nothing"),
    )

    assert survivors(folder) == [(Mutation.CONDITION_REMOVED, 3, 10, 14)]


def test_what_the_schema_would_refuse_is_no_mutant(tmp_path: Path) -> None:
    policy = (
        '@id("mine")\npermit (principal, action == Action::"proposal:read", resource)\n'
        "when { resource has requester && resource.requester == principal.key };"
    )
    folder = read(
        tmp_path / "set",
        policy,
        case("dana", "may", "Proposal::of-dana", "mine", "proposal:read"),
        case("vera", "may_not", "Proposal::of-dana", "nothing", "proposal:read"),
    )

    assert survivors(folder) == []
