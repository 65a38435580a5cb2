"""Who can do something, and what somebody can do: what is left of the policies when only one side of a question is known.

Cedar evaluates them as far as it goes (partial evaluation) and returns the rest of each. The answers here say all of it,
in Cedar: put into a policy, a way's condition allows exactly what the whole set allows by that way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import cedarpy
from cedarpy import pst

from .askers import tell_person
from .context import OF_CALLER, Told, tell_caller
from .engine import LoadedPolicies
from .formulas import Formula, Part, make_all, make_any, negate, parts, read_expression, substitute
from .locations import Location
from .model import NO_SCOPE, OUTSIDE, Action, ActionGroup, Attribute, Caller, Resource, ResourceType
from .parts import PERSON_ATTRIBUTES
from .places import Places
from .solver import Solver
from .surroundings import Surroundings
from .vocabulary import find_vocabulary
from .wording import write_formula


@dataclass(frozen=True, slots=True)
class Hurdle:
    """A forbid that takes a way away, unless `needs` holds: a condition in Cedar."""

    policy: str
    location: Location
    needs: str


@dataclass(frozen=True, slots=True)
class Way:
    """A permit that can be met: where `needs` holds, a condition in Cedar (`true`: always), and every hurdle is taken.

    `roles` and `groups` are those that it asks for, any of them."""

    policy: str
    location: Location
    needs: str
    hurdles: tuple[Hurdle, ...] = ()
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def condition(self) -> str:
        """All that it takes, in Cedar."""
        needed = [text for text in (self.needs, *(hurdle.needs for hurdle in self.hurdles)) if text != "true"]
        return _join(" && ", needed) or "true"


@dataclass(frozen=True, slots=True)
class Blocked:
    """A permit that could be met, but for the forbids that leave nothing of it; for what no policy decides, `policy` is
    `""`."""

    policy: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ways:
    """Every way for an action to be allowed on one resource, or on any of a type. `always` says that these ways leave
    out nobody and nothing."""

    action: Action
    type: ResourceType
    ways: tuple[Way, ...]
    blocked: tuple[Blocked, ...]
    always: bool

    @property
    def condition(self) -> str:
        """When the action is allowed, in Cedar; `false` where it never is."""
        return _join(" || ", [way.condition for way in self.ways]) or "false"


def _join(operator: str, conditions: Iterable[str]) -> str:
    texts = list(dict.fromkeys(conditions))
    return texts[0] if len(texts) == 1 else operator.join(f"({text})" for text in texts)


def who_can(loaded: LoadedPolicies, action: Action, resource: Resource) -> Ways:
    """Everybody who may do this to this resource, as conditions on who asks and how.

    A role counts where it holds at the resource. A credential that is not good for it (`within`, scope) opens nothing.
    Nobody can do what is never asked of such a resource."""
    if resource.type not in find_vocabulary(loaded.schema).types_of(action):
        return Ways(action, resource.type, (), (), always=False)
    place = Places().find(resource)
    strict = place.strict and not place.lists(action)
    rest = _evaluate(loaded, action, resource)
    known = _Knowledge(context={"strict": strict})
    solver = Solver(find_vocabulary(loaded.schema), action, (resource.type,))
    return _weigh(loaded, action, resource.type, rest.change(known.find), solver)


def what_can(
    loaded: LoadedPolicies,
    caller: Caller,
    surroundings: Surroundings = Surroundings(),  # noqa: B008  # a constant
    *,
    login_age: int | None = None,
) -> list[Ways]:
    """What the caller may do to which resources, for every action and each type of resource that it is asked of.

    `login_age` in seconds; None leaves it, and how they logged in, as part of the conditions."""
    told = tell_caller(caller, surroundings.agents, OF_CALLER.keys() - {"acr"})
    return [
        _reach(loaded, caller, told, rest, action, kind, login_age)
        for action in Action
        for rest in (_evaluate(loaded, action, None),)
        for kind in find_vocabulary(loaded.schema).types_of(action)
    ]


def _reach(
    loaded: LoadedPolicies,
    caller: Caller,
    told: Told,
    rest: _Rest,
    action: Action,
    kind: ResourceType,
    login_age: int | None,
) -> Ways:
    lists = kind is ResourceType.INSTALLATION and action.group is ActionGroup.READ
    if any(group is action.group for group, _ in caller.withheld):
        return Ways(action, kind, (), (Blocked("", NO_SCOPE.policies),), always=False)
    inside = _good_for(caller, action, lists, find_vocabulary(loaded.schema).lies_in(kind, ResourceType.APP))
    if inside is False:
        return Ways(action, kind, (), (Blocked("", OUTSIDE.policies),), always=False)
    context = dict(told)
    if kind is ResourceType.INSTALLATION:  # in no environment, which counts as strict, unless it is a list
        context["strict"] = not lists
    if login_age is not None:
        context |= {"login_age": login_age, "acr": caller.acr}
    known = _Knowledge(context, tell_person(caller, PERSON_ATTRIBUTES), caller, lists)
    solver = Solver(find_vocabulary(loaded.schema), action, (kind,))
    return _weigh(loaded, action, kind, rest.change(known.find), solver, inside)


def _good_for(caller: Caller, action: Action, lists: bool, below_apps: bool) -> Formula:
    """Where the caller's credential is good for the action."""
    if not caller.within:
        return True
    if lists:
        return action is not Action.RECORD_SEARCH
    if not below_apps or action.group is ActionGroup.DELEGATE:
        return False
    return Part(_in_app(caller.within))


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is left of each permit and forbid, by id."""

    permits: Mapping[str, Formula]
    forbids: Mapping[str, Formula]

    def change(self, known: Callable[[pst.Expr], pst.Expr | None]) -> _Rest:
        return _Rest(
            {name: substitute(formula, known) for name, formula in self.permits.items()},
            {name: substitute(formula, known) for name, formula in self.forbids.items()},
        )


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """What is known of the context and, where there is a caller, of who asks."""

    context: Mapping[str, object]
    person: Mapping[str, object] | None = None
    caller: Caller | None = None
    lists: bool = False

    def find(self, expression: pst.Expr) -> pst.Expr | None:
        """The value of an expression, or what it comes down to; None where it is not known."""
        match expression:
            case pst.GetAttr(base=pst.Var(name="context"), attr=name) if name in self.context:
                return _literal(self.context[name])
            case pst.GetAttr(base=pst.Var(name="principal"), attr=name) if self.person is not None:
                return _literal(self.person[name])
            case pst.BinaryOp(op="in" | "eq", left=pst.Var(name="principal"), right=pst.EntityLit(value=uid)) if (
                self.caller is not None
            ):
                return self._belongs(self.caller, str(uid.type), uid.id)
            case _:
                return None

    def _belongs(self, caller: Caller, kind: str, name: str) -> pst.Expr:
        """Whether the caller is that person, in that group, or has that role: at some apps, perhaps."""
        if kind != "Role":
            return pst.BoolLit((kind == "Group" and name in caller.groups) or (kind == "Person" and name == caller.key))
        apps = sorted(app for role, app in caller.grants if role == name)
        if name in caller.roles or not apps or self.lists:
            return pst.BoolLit(name in caller.roles or bool(apps))
        found = _in_app(apps[0])
        for app in apps[1:]:
            found = pst.BinaryOp("or", found, _in_app(app))
        return found


def _in_app(app: str) -> pst.Expr:
    uid = pst.EntityUid(pst.EntityType(str(ResourceType.APP)), app)
    return pst.BinaryOp("in", pst.Var("resource"), pst.EntityLit(uid))


def _literal(value: object) -> pst.Expr:
    match value:
        case bool():
            return pst.BoolLit(value)
        case int():
            return pst.LongLit(value)
        case list() | tuple():
            return pst.Set(tuple(pst.StringLit(str(each)) for each in value))
        case _:
            return pst.StringLit(str(value))


def _weigh(
    loaded: LoadedPolicies,
    action: Action,
    kind: ResourceType,
    rest: _Rest,
    solver: Solver,
    inside: Formula = True,
) -> Ways:
    forbids = {name: formula for name, formula in rest.forbids.items() if solver.possible(inside, formula)}
    ways: list[Way] = []
    blocked: list[Blocked] = []
    found: list[Formula] = []
    for name, permit in rest.permits.items():
        met = make_all([permit, inside])
        if not solver.possible(met):
            continue
        against = {other: formula for other, formula in forbids.items() if solver.possible(met, formula)}
        kept = [negate(formula) for formula in against.values()]
        if not solver.possible(met, *kept):
            whole = [other for other, formula in against.items() if solver.implies(met, formula)]
            blocked.append(Blocked(name, tuple(whole or against)))
            continue
        needs = solver.simplify(met)
        hurdles = [
            Hurdle(other, loaded.locations[other], write_formula(solver.simplify(negate(formula), met)))
            for other, formula in against.items()
        ]
        ways.append(
            Way(
                policy=name,
                location=loaded.locations[name],
                needs=write_formula(needs),
                hurdles=tuple(hurdles),
                roles=tuple(_asks_for(needs, "Role")),
                groups=tuple(_asks_for(needs, "Group")),
            )
        )
        found.append(make_all([met, *kept]))
    always = bool(found) and solver.implies(True, make_any(found))
    return Ways(action, kind, tuple(ways), tuple(blocked), always)


def _asks_for(formula: Formula, kind: str) -> Iterator[str]:
    told: set[str] = set()
    for part in parts(formula):
        match part:
            case Part(
                expression=pst.BinaryOp(op="in", left=pst.Var(name="principal"), right=pst.EntityLit(value=uid)),
                negated=False,
            ) if str(uid.type) == kind and uid.id not in told:
                told.add(uid.id)
                yield uid.id
            case _:
                pass


def _evaluate(loaded: LoadedPolicies, action: Action, resource: Resource | None) -> _Rest:
    """What Cedar leaves of the policies about the action, and about the resource where it is known. Who asks, and how,
    is not known to it."""
    entities: list[object] = [
        {"uid": {"type": "Action", "id": action}, "attrs": {}, "parents": [{"type": "Action", "id": action.group}]}
    ]
    if resource is not None:
        entities += [_entity(each) for each in _with_parents(resource).values()]
    answer = cedarpy.is_authorized_partial(
        {
            "principal": None,
            "action": f'Action::"{action}"',
            "resource": None if resource is None else f"{resource.type}::{json.dumps(resource.id, ensure_ascii=False)}",
            "context": None,
        },
        loaded.parts[action].policies,
        json.dumps(entities),
    )
    if answer.diagnostics.errors:
        raise ValueError("; ".join(answer.diagnostics.errors))
    written = {
        "templates": {},
        "staticPolicies": {name: _name_unknowns(rest) for name, rest in answer.residuals.items()},
        "templateLinks": [],
    }
    left = cedarpy.PolicySet.from_json_str(json.dumps(written)).to_pst().static_policies
    formulas: dict[str, dict[str, Formula]] = {"permit": {}, "forbid": {}}
    for name in sorted(left):
        conditions = (
            read_expression(clause.expr) if isinstance(clause, pst.When) else negate(read_expression(clause.expr))
            for clause in left[name].clauses
        )
        formulas[left[name].effect][name] = make_all(conditions)
    return _Rest(formulas["permit"], formulas["forbid"])


def _name_unknowns(rest: object) -> object:
    """What Cedar left, where what it did not know goes by its name again."""
    match rest:
        case {"unknown": [{"Value": name}]}:
            return {"Var": name}
        case dict():
            return {key: _name_unknowns(value) for key, value in rest.items()}
        case list():
            return [_name_unknowns(value) for value in rest]
        case _:
            return rest


def _with_parents(resource: Resource) -> dict[str, Resource]:
    found = {resource.uid: resource}
    for parent in resource.parents:
        found |= _with_parents(parent)
    return found


def _entity(resource: Resource) -> dict[str, object]:
    return {
        "uid": {"type": str(resource.type), "id": resource.id},
        "attrs": {name: _plain(value) for name, value in resource.attributes},
        "parents": [{"type": str(parent.type), "id": parent.id} for parent in resource.parents],
    }


def _plain(value: Attribute) -> object:
    return list(value) if isinstance(value, tuple) else value
