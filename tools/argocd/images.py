"""Where one source of an app says which image runs, and the merge patch that makes it say another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ...policies.errors import Invalid, Refused
from ..change import JsonObject

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PARAMETER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\[\]-]{0,199}")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Image:
    """A container image; `alias` is the name that Kustomize replaces, empty where that is `name` itself."""

    name: str
    tag: str = ""
    digest: str = ""
    alias: str = ""

    @property
    def key(self) -> str:
        return self.alias or self.name

    @property
    def version(self) -> str:
        """Tag and digest, as far as it has them: what comes after the name."""
        return f"{self.tag}@{self.digest}" if self.tag and self.digest else self.tag or self.digest

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


@dataclass(frozen=True, slots=True)
class ImageEdit:
    """A merge patch of one source, in what it is made, and the version before (`""`: not known) and after."""

    patch: dict[str, Any]
    place: str
    image: Image
    was: str
    now: str


def split_image(text: str) -> Image:
    """`[alias=]name[:tag][@digest]` in its parts, unchecked."""
    alias, equals, rest = text.rpartition("=")
    rest, _, digest = rest.partition("@")
    path, slash, last = rest.rpartition("/")
    last, _, tag = last.partition(":")
    return Image(f"{path}{slash}{last}", tag, digest, alias if equals else "")


def find_running(name: str, running: Iterable[str]) -> Image | None:
    """The image of this name among those that an app runs."""
    return next((image for image in map(split_image, running) if image.name == name), None)


def parse_image(text: str) -> Image:
    """An image that can be rolled out; raises `Invalid` (field `image`) for any other text."""
    image = split_image(text)
    if not image.version or not _is_well_formed(image):
        raise Invalid(
            "This is not an image with a tag or a digest.",
            field="image",
            hint="Give name:tag, name@sha256:…, or for Kustomize also name-in-manifests=name:tag.",
        )
    return image


def edit_kustomize(source: JsonObject, image: Image, running: Sequence[str]) -> ImageEdit:
    """Replaces the override of this image, or adds one. `running` are the images that the app runs now.

    Raises `Invalid` (field `image`) for an image that nothing in the app is known to use: such an override would
    silently do nothing."""
    entries: list[str] = list((source.get("kustomize") or {}).get("images") or ())
    overrides = [split_image(entry) for entry in entries]
    index = next((at for at, known in enumerate(overrides) if _same(known, image) and _is_well_formed(known)), None)
    if index is None:
        was = find_running(image.name, running)
        if was is None and not image.alias:
            raise _unknown_image(image, running)
        return _edit_kustomize([*entries, _write_override(image)], image, was.version if was else "")
    known = overrides[index]
    name = known.name if known.alias and image.name == known.alias else image.name
    new = Image(name, image.tag, image.digest, known.alias or (image.alias if image.alias != name else ""))
    entries[index] = _write_override(new)
    return _edit_kustomize(entries, new, known.version)


def edit_helm(source: JsonObject, image: Image, parameter: str, running: Sequence[str]) -> ImageEdit:
    """Sets the parameter or value that says which image the chart runs: the named one, else the only one that fits.

    Raises `Invalid` (field `parameter`) when that is not clear, and `Refused` when the chart takes this image from
    another repository than the parameter could say."""
    if image.alias:
        raise Invalid("Only Kustomize takes name=name:tag.", field="image", hint="Give name:tag.")
    values = read_values(source)
    if not parameter:
        parameter = _choose_parameter(values, image, running)
    elif not _PARAMETER.fullmatch(parameter):
        raise Invalid("This is not a Helm parameter.", field="parameter", hint="Give a path such as image.tag.")
    current = values.get(parameter, "")
    new = _write_value(parameter, current, values, image, running)
    was = split_image(current).version if is_reference(current) else current
    return ImageEdit(put_value(source, parameter, new), f"Helm parameter {parameter}", image, was, image.version)


def read_values(source: JsonObject) -> dict[str, str]:
    """What a source gives its Helm chart: every value by its dotted path, as the chart would take it.

    A name that is no parameter's is left out: it would become part of our own sentences."""
    helm: JsonObject = source.get("helm") or {}
    return {name: value for name, value in _list_values(helm) if _PARAMETER.fullmatch(name)}


def put_value(source: JsonObject, parameter: str, value: str) -> dict[str, Any]:
    """The merge patch of a source that gives its Helm chart this value, where it has the parameter now."""
    helm: JsonObject = source.get("helm") or {}
    listed: list[dict[str, Any]] = list(helm.get("parameters") or ())
    at = next((at for at, one in enumerate(listed) if one.get("name") == parameter), None)
    path = parameter.split(".")
    if at is not None:
        listed[at] = {**listed[at], "value": value}
        return {"helm": {"parameters": listed}}
    if _value_at(helm.get("valuesObject"), path) is not None:
        return {"helm": {"valuesObject": _nest(path, value)}}
    # A parameter wins over every value, wherever that is written.
    return {"helm": {"parameters": [*listed, {"name": parameter, "value": value}]}}


def find_repository(parameter: str, values: Mapping[str, str]) -> str:
    """The repository that stands beside a tag parameter, with its registry; `""` when nothing says it."""
    above, _, _ = parameter.rpartition(".")
    beside = f"{above}." if above else ""
    repository, registry = values.get(f"{beside}repository", ""), values.get(f"{beside}registry", "")
    return f"{registry}/{repository}" if repository and registry else repository


def is_tag(parameter: str) -> bool:
    """Whether a parameter's name says that it holds the tag of an image."""
    return parameter.lower().endswith("tag")


def is_reference(value: str) -> bool:
    """Whether a value is a whole image, not a bare tag."""
    return "/" in value or ":" in value


def _is_well_formed(image: Image) -> bool:
    parts = (
        (_NAME, image.name, True),
        (_NAME, image.alias, False),
        (_TAG, image.tag, False),
        (_DIGEST, image.digest, False),
    )
    return all(form.fullmatch(part) for form, part, needed in parts if part or needed)


def _same(known: Image, image: Image) -> bool:
    return known.key == image.alias if image.alias else image.name in (known.name, known.key)


def _edit_kustomize(entries: list[str], image: Image, was: str) -> ImageEdit:
    return ImageEdit({"kustomize": {"images": entries}}, "Kustomize image", image, was, image.version)


def _write_override(image: Image) -> str:
    return f"{image.alias}={image}" if image.alias else str(image)


def _unknown_image(image: Image, running: Sequence[str]) -> Invalid:
    known = sorted({name for one in running if _NAME.fullmatch(name := split_image(one).name)})
    told = f"It runs {', '.join(known[:_SHOWN])}. " if known else ""
    return Invalid(
        f"Nothing in this app is known to use {image.name}.",
        field="image",
        hint=f"{told}To replace an image by one of another name, give name-in-manifests=name:tag (Kustomize).",
    )


def _list_values(helm: JsonObject) -> Iterator[tuple[str, str]]:
    try:
        block = yaml.safe_load(helm.get("values") or "")
    except yaml.YAMLError:
        block = None
    yield from _flatten(block, "")
    yield from _flatten(helm.get("valuesObject"), "")
    for one in helm.get("parameters") or ():
        yield str(one.get("name", "")), str(one.get("value", ""))


def _flatten(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else str(key))
    elif path and isinstance(value, str | int | float):
        yield path, str(value)


def _choose_parameter(values: Mapping[str, str], image: Image, running: Sequence[str]) -> str:
    fitting = [name for name, value in values.items() if _fits(name, value, values, image, running)]
    if len(fitting) == 1:
        return fitting[0]
    candidates = fitting or [name for name in values if "image" in name.lower() or name.lower().endswith("tag")]
    told = f"Candidates: {', '.join(candidates[:_SHOWN])}." if candidates else "For most charts it is image.tag."
    raise Invalid("Which Helm parameter sets this image is not clear.", field="parameter", hint=told)


def _fits(name: str, value: str, values: Mapping[str, str], image: Image, running: Sequence[str]) -> bool:
    if is_tag(name):
        repository = find_repository(name, values)
        return repository == image.name if repository else find_running(image.name, running) is not None
    held = split_image(value)
    return bool(held.version) and held.name == image.name


def _write_value(parameter: str, current: str, values: Mapping[str, str], image: Image, running: Sequence[str]) -> str:
    if not is_tag(parameter) and (not current or is_reference(current)):
        if current and not split_image(current).version:
            raise Invalid(
                f"{parameter} holds a repository without a tag.",
                field="parameter",
                hint="Name the parameter of the tag.",
            )
        return str(image)
    repository = find_repository(parameter, values)
    if repository and repository != image.name:
        raise Refused(
            f"{parameter} is the tag of another image.",
            field="image",
            hint=f"The chart takes {repository if _NAME.fullmatch(repository) else 'another repository'} there; give "
            "that name, or another parameter.",
        )
    if not repository and find_running(image.name, running) is None:
        raise _unknown_image(image, running)
    if not image.tag:
        raise Invalid(f"{parameter} takes a tag.", field="image", hint="Give name:tag or name:tag@sha256:….")
    return image.version


def _value_at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _nest(path: Sequence[str], value: str) -> dict[str, Any]:
    nested: Any = value
    for key in reversed(path):
        nested = {key: nested}
    return dict(nested)
