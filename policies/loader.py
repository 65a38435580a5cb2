"""The loader: reads policies and their cases from files, refuses what is wrong in them, and takes over changed ones."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cedarpy

from .casebook import Answer, Case, find_gaps, judge, read_cases
from .engine import Engine, LoadedPolicies
from .errors import BadConfiguration
from .model import Action, ResourceType
from .parts import Part, prepare
from .statements import Statement, check_statements, read_statements, takes_in
from .surroundings import Surroundings
from .watching import watch_folder

__all__ = [
    "Folder",
    "LoadedPolicies",
    "Policies",
    "Reload",
    "assemble",
    "check_cases",
    "find_missing_cases",
    "load_policies",
    "read_folder",
    "read_policies",
    "read_schema",
]

SHIPPED = Path(__file__).parent
"""Where the shipped policies, their cases and the schema are."""

SCHEMA = SHIPPED / "schema.cedarschema"

ALWAYS = (SHIPPED / "always.cedar", SHIPPED / "cases/always.yaml")
"""The policies that are in force beside those of any folder, and their cases. They forbid, so they hold whatever is
permitted."""

_MOST_LOADS = 5
"""How often files are read anew that changed while they were read."""

_SHORT = 200
"""Characters of a refusal that is told in short."""

_Fingerprint = tuple[object, ...]

_IDENTIFIER = re.compile(r"\b[A-Za-z_]\w*\b")


@cache
def read_schema() -> cedarpy.Schema:
    """The program's own schema, parsed once."""
    return cedarpy.Schema.from_str(SCHEMA.read_text(encoding="utf-8"))


@cache
def read_fits() -> frozenset[tuple[Action, ResourceType]]:
    """What the schema lets be asked of which type of resource."""
    pairs = [(action, kind) for action in Action for kind in ResourceType]
    questions = [
        f'@id("{number}") permit (principal, action == Action::"{action}", resource is {kind});'
        for number, (action, kind) in enumerate(pairs)
    ]
    refused = cedarpy.validate_policies("".join(questions), read_schema()).id_annotations_by_policy_id.values()
    return frozenset(pair for number, pair in enumerate(pairs) if str(number) not in refused)


def load_policies(directory: Path | None) -> LoadedPolicies:
    """The policies in the directory's `*.cedar` files (None: the shipped ones), after all cases in its `cases/*.yaml`
    have been decided as they say. Raises `BadConfiguration` naming file and line of every mistake."""
    loaded, cases = read_policies(directory)
    problems = [f"{answer.case.location}: {answer.problem}" for answer in check_cases(loaded, cases) if answer.problem]
    problems += find_missing_cases(loaded, cases, directory)
    if problems:
        raise BadConfiguration("\n".join(problems))
    return loaded


def read_policies(directory: Path | None) -> tuple[LoadedPolicies, list[Case]]:
    """The policies and the cases, both well formed and fitting the schema, the cases not decided yet."""
    folder = read_folder(directory)
    return assemble(folder.statements, folder.digest), folder.cases


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder holds: the policies as they are written, the cases, and the digest over all of its files."""

    statements: list[Statement]
    cases: list[Case]
    digest: str

    @property
    def own(self) -> list[Statement]:
        """The policies of the folder itself, without what is always in force; of the shipped folder, all."""
        own = [statement for statement in self.statements if statement.file.file not in ALWAYS]
        return self.statements if own and own[0].file.file.parent == SHIPPED else own


def read_folder(directory: Path | None) -> Folder:
    """As `read_policies`, not yet made into a set. Raises `BadConfiguration` with the place of every mistake."""
    files = _read_files(directory or SHIPPED)
    schema_text = SCHEMA.read_text(encoding="utf-8")
    statements: list[Statement] = []
    cases: list[Case] = []
    mistakes: list[str] = []
    reserved: dict[str, Statement] = {}
    for file, content in files:
        text = _decode(file, content)
        try:
            if file == ALWAYS[0]:
                statements += read_statements(file, text)
                reserved = {statement.id: statement for statement in statements}
            elif file.suffix == ".cedar":
                found = read_statements(file, text)
                mistakes += _find_impostors(found, reserved)
                statements += [statement for statement in found if statement.id not in reserved]
            elif file.suffix == ".cedarschema":
                if text != schema_text:
                    raise BadConfiguration(
                        f"{file}:1: the schema is Arborgate's own and can't be replaced: delete the file"
                    )
            else:
                cases += read_cases(file, text)
        except BadConfiguration as error:
            mistakes.append(error.message)
    try:
        check_statements(statements, read_schema(), _IDENTIFIER.findall(schema_text))
    except BadConfiguration as error:
        mistakes.append(error.message)
    if mistakes:
        raise BadConfiguration("\n".join(mistakes))
    return Folder(statements, cases, _digest(directory or SHIPPED, [*files, (SCHEMA, schema_text.encode())]))


def _find_impostors(statements: Iterable[Statement], reserved: Mapping[str, Statement]) -> Iterator[str]:
    """What to tell of each policy that has the name of one which is always in force, and is another."""
    for statement in statements:
        real = reserved.get(statement.id)
        if real is not None and replace(statement.policy, id="") != replace(real.policy, id=""):
            yield statement.passage(f'@id("{statement.id}")').tell(
                f'@id("{statement.id}") is the name of a policy that is always in force as Arborgate has it; delete this '
                "one, or give it another @id"
            )


def assemble(statements: Iterable[Statement], digest: str = "") -> LoadedPolicies:
    """A set of checked policies. Each is given its `@id` as its id in Cedar, so that what Cedar answers names it."""
    listed = list(statements)
    policies = [prepare(replace(statement.policy, id=statement.id)) for statement in listed]
    return LoadedPolicies(
        parts={
            action: Part(action, [each for each in policies if takes_in(each.template.action, action)])
            for action in Action
        },
        schema=read_schema(),
        fits=read_fits(),
        digest=digest,
        statements={statement.id: statement for statement in listed},
        locations={statement.id: statement.location for statement in listed},
    )


def check_cases(loaded: LoadedPolicies, cases: Sequence[Case]) -> list[Answer]:
    """What the policies decide in each case."""
    return judge(loaded, cases)


def find_missing_cases(loaded: LoadedPolicies, cases: Sequence[Case], directory: Path | None) -> list[str]:
    """One line for each policy and each action that no case is about; in a folder of yours, no case of yours."""
    folder = directory or SHIPPED
    always = () if folder == SHIPPED else ALWAYS
    own = [case for case in cases if case.location.file not in always]
    ours = {name for name, location in loaded.locations.items() if location.file in always}
    return find_gaps(own, loaded.locations, folder / "cases", ours)


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of changed files: the set in force now, and the error that kept it, if the new one was refused."""

    digest: str
    refused: BadConfiguration | None = None


class Policies:
    """The engine in force. A changed set takes over whole, or not at all."""

    def __init__(
        self,
        directory: Path | None,
        clock: Callable[[], float] = time.time,
        surroundings: Surroundings = Surroundings(),  # noqa: B008  # a constant
    ) -> None:
        """Raises `BadConfiguration` when the policies can't be loaded: there is no starting without them."""
        self._directory = directory
        self._clock = clock
        self._surroundings = surroundings
        self._refused: BadConfiguration | None = None
        self._seen = _fingerprint(directory or SHIPPED)
        self._current = Engine(load_policies(directory), clock, surroundings)

    @property
    def current(self) -> Engine:
        """The engine to ask. A call takes it once and keeps it, so that one call is decided by one set."""
        return self._current

    @property
    def refused(self) -> str:
        """Why the files that are there now are not in force, in short; `""` when they are."""
        problem = self._refused.message.split("\n")[0] if self._refused else ""
        return problem.replace(f"{self._directory or SHIPPED}/", "")[:_SHORT]

    async def watch(self, on_event: Callable[[Reload], Awaitable[None]], *, interval: float = 5.0) -> None:
        """Takes over changed files until cancelled, and tells what came of it. Where the file system does not tell of a
        change, it is found within `interval` seconds. What `on_event` raises ends the watch."""
        async with aclosing(watch_folder(self._directory or SHIPPED, interval=interval)) as changes:
            async for _ in changes:
                if (event := await self.reload()) is not None:
                    await on_event(event)

    async def reload(self) -> Reload | None:
        """Loads the files if they have changed since they were last looked at; None if they have not."""
        seen = await asyncio.to_thread(_fingerprint, self._directory or SHIPPED)
        if seen == self._seen:
            return None
        found, self._seen = await asyncio.to_thread(_load_settled, self._directory, seen)
        if isinstance(found, BadConfiguration):
            self._refused = found
            return Reload(self._current.digest, found)
        self._refused = None
        self._current = Engine(found, self._clock, self._surroundings)
        return Reload(self._current.digest)


def _load_settled(directory: Path | None, seen: _Fingerprint) -> tuple[LoadedPolicies | BadConfiguration, _Fingerprint]:
    """The set, or why there is none, and what the files were like: ones that did not change while they were read, as half
    of one set and half of another is neither."""
    before = seen
    for _ in range(_MOST_LOADS):
        try:
            found: LoadedPolicies | BadConfiguration = load_policies(directory)
        except BadConfiguration as error:
            found = error
        except Exception as error:  # whatever is wrong with the new files, the old set goes on deciding
            found = BadConfiguration(f"{directory or SHIPPED}: {error}")
        before, seen = seen, _fingerprint(directory or SHIPPED)
        if seen == before:
            return found, seen
    return BadConfiguration(f"{directory or SHIPPED}: the files change faster than they can be read"), before


def _list_files(directory: Path) -> list[Path]:
    schemas = [*directory.glob("*.cedarschema")]
    return sorted(
        [*directory.glob("*.cedar"), *schemas, *directory.glob("cases/*.yaml"), *directory.glob("cases/*.yml")]
    )


def _list_stray(directory: Path) -> list[Path]:
    """Policies where none are read: further down, or in another spelling. Folders that begin with a dot are left alone:
    a mounted ConfigMap keeps in them what it links to."""
    found = {*directory.glob("*.[cC][eE][dD][aA][rR]"), *directory.glob("*/*.[cC][eE][dD][aA][rR]")}
    inside = {file for file in found if not file.parent.name.startswith(".") or file.parent == directory}
    return sorted(inside.difference(directory.glob("*.cedar")))


def _read_files(directory: Path) -> list[tuple[Path, bytes]]:
    """What the folder holds, after what is always in force."""
    if not directory.is_dir():
        problem = "is no folder; name the one that it is in" if directory.exists() else "there is no such folder"
        raise BadConfiguration(f"{directory}: {problem}")
    if stray := _list_stray(directory):
        problem = "is not read, so it would be in force for nobody; policies are in *.cedar files right in the folder"
        raise BadConfiguration("\n".join(f"{file}: {problem}" for file in stray))
    own = [file for file in _list_files(directory) if file not in ALWAYS]
    if not any(file.suffix == ".cedar" for file in own):
        raise BadConfiguration(f"{directory}: holds no *.cedar file, so nobody could do anything")
    files = [*ALWAYS, *own]
    try:
        return [(file, file.read_bytes()) for file in files]
    except OSError as error:
        raise BadConfiguration(f"{error.filename}: cannot be read: {error.strerror}") from error


def _decode(file: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadConfiguration(f"{file}:{line}: is not UTF-8") from error


def _digest(directory: Path, files: Sequence[tuple[Path, bytes]]) -> str:
    """Over names and contents, each with its length, so that nothing can move from one file to another unnoticed."""
    digest = hashlib.sha256()
    own = (*ALWAYS, SCHEMA)
    named = [(f"/{file.name}" if file in own else file.relative_to(directory).as_posix(), text) for file, text in files]
    for name, content in sorted(named):
        digest.update(f"{len(name)}:{name}:{len(content)}:".encode() + content)
    return digest.hexdigest()


def _fingerprint(directory: Path) -> _Fingerprint:
    """What changes when a file does: behind a mounted ConfigMap, the target of a link and the times of other files."""
    marks: list[object] = []
    try:
        files = (*_list_files(directory), *_list_stray(directory))
    except OSError as error:  # the folder went away while it was looked at
        return (error.errno,)
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            marks.append((file, error.errno))
        else:
            marks.append((file, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(marks)
