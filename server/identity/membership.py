"""Who is in which group, from a file of the operators' own: for providers whose tokens name no groups."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from ...policies.errors import BadConfiguration
from .tokens import is_name

logger = logging.getLogger(__name__)

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LOOK_SECONDS = 3.0


class GroupsFile:
    """A YAML file, `group: [subject or verified e-mail, …]`, in memory. Read at the start, where `BadConfiguration`
    names file and line of a mistake; read again when it changes, where a mistake keeps what was read before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _look(path)
        self._groups = _read(path)

    def groups_of(self, subject: str, email: str) -> frozenset[str]:
        """The groups of who has this subject (as it is) or this verified e-mail (in whatever case), "" for none."""
        by_subject = self._groups.get(subject, frozenset())
        return by_subject | self._groups.get(email.casefold(), frozenset()) if "@" in email else by_subject

    async def watch(self, changed: Callable[[], None]) -> None:
        """Looks every few seconds, for ever; calls `changed` after the groups have."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if await self.refresh():
                changed()

    async def refresh(self) -> bool:
        """Reads the file if it is another than before; whether that worked."""
        seen = await asyncio.to_thread(_look, self._path)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._groups = await asyncio.to_thread(_read, self._path)
        except BadConfiguration as error:
            logger.error("groups stay as they were: %s", error)
            return False
        logger.info("groups are read anew from %s", self._path)
        return True


def _look(path: Path) -> tuple[int, ...]:
    """What changes with a file, also when a link to it is turned elsewhere; nothing for none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _read(path: Path) -> Mapping[str, frozenset[str]]:
    """Member: their groups. An e-mail address is there in lower case too."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except OSError as error:
        raise BadConfiguration(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"{path}: is not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadConfiguration(f"{path}:{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise BadConfiguration(f"{path}: is not YAML: it has characters of no text") from error
    groups: dict[str, set[str]] = defaultdict(set)
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise _mistake(path, root, "the file should hold `group: [member, …]`")
    known: set[str] = set()
    for key, value in root.value:
        group = _name(path, key, "a group")
        if group in known:
            raise _mistake(path, key, f"the group {group!r} is there twice")
        known.add(group)
        if not isinstance(value, yaml.SequenceNode):
            raise _mistake(path, value, f"the members of {group!r} should be a list")
        for member in value.value:
            name = _name(path, member, f"a member of {group!r}")
            groups[name].add(group)
            if "@" in name:
                groups[name.casefold()].add(group)
    return {member: frozenset(names) for member, names in groups.items()}


def _name(path: Path, node: yaml.Node, what: str) -> str:
    """A scalar as it is written: a subject of digits alone stays text."""
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null" or not is_name(node.value):
        raise _mistake(path, node, f"{what} should be a name, without anything invisible in it")
    return str(node.value)


def _mistake(path: Path, node: yaml.Node, what: str) -> BadConfiguration:
    return BadConfiguration(f"{path}:{node.start_mark.line + 1}: {what}")
