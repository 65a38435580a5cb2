"""The labels by which an app says from where it was promoted last; they stand on the Application itself."""

FROM = "arborgate.dev/promoted-from"
"""From which environment."""

REVISION = "arborgate.dev/promoted-revision"
"""Which revision that brought: as much of it as a label can hold."""

PROPOSAL = "arborgate.dev/promotion"
"""By which proposal; who asked for it and who approved it is told there."""

LINEAGE = frozenset({FROM, REVISION, PROPOSAL})
"""All of them: no other label is ever written."""
