"""The models that are kept and approved: closed, frozen, and with a JSON form that outlives new fields."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Closed(BaseModel):
    """A model that takes no unknown field and never changes.

    The fields named in `later` came after proposals of this form had been approved: while one of them is as it is by
    default the JSON form leaves it out, so that a digest from before it still holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = handler(self)
        for name in self.later:
            if name in said and getattr(self, name) == type(self).model_fields[name].default:
                del said[name]
        return said
