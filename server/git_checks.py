"""What the applier asks of changes that are made by a commit, besides what it asks of all changes."""

from __future__ import annotations

from ..policies.errors import Refused
from ..tools.change import Change, JsonObject
from ..tools.git.changes import find_field, is_taken_up
from ..tools.git.places import API, APPLICATION, FILE, Books, require_place
from ..tools.git.retelling import list_retellings
from ..tools.git.settings import GitSettings
from ..tools.retelling import Retellings
from ..tools.tree import AppTree, Node


class GitChecks:
    """By the applier's own settings and app tree."""

    def __init__(self, settings: GitSettings, tree: AppTree) -> None:
        self._books = Books(settings)
        self._tree = tree

    @property
    def retellings(self) -> Retellings:
        return list_retellings(self._books)

    def check(self, node: Node, change: Change) -> bool:
        """Whether the change is made by a commit; raises `Refused` when it is and can't be one of this app's, and when it is
        not and has to be."""
        if not is_commit(change):
            if "spec" in change.patch and change.target.kind == APPLICATION and self._books.always(node):
                raise Refused(f"The spec of {change.target.app} is changed by commits alone (git.always).")
            return False
        require_place(self._books, self._tree, node, change.target)
        if is_value(change) and not find_field(change, self._books, node)[0]:
            kind = str(change.kind).replace("_", " ")
            raise Refused(f"The change of {change.target} writes what no {kind} of {change.target.app} does.")
        return True


def is_commit(change: Change) -> bool:
    return change.target.api == API


def is_value(change: Change) -> bool:
    """Whether it changes an app's values, whose fields the settings name."""
    return is_commit(change) and change.target.kind == FILE


def waits_for_argo(change: Change, app: JsonObject, target: JsonObject) -> bool:
    """Whether Argo CD has not taken up yet what was committed."""
    return is_commit(change) and not is_taken_up(change, app, target)
