"""Registries: the choices of one kind, such as all penalties, found by the names that files use.

A choice is an object, or a class of settings, that carries its own name. Other distributions add theirs by
an entry point whose group is that of the kind, such as ``painvrl.penalties``. Those are loaded when a name is
asked for that painvrl itself does not have, or when all names are. One that cannot be loaded breaks nothing
but what asks for it.

>>> from typing import Literal
>>> from painvrl.core.settings import Settings
>>> shapes = Registry[type[Settings]]("shape", group="example.shapes", named_by="kind")
>>> @shapes.register
... class Circle(Settings):
...     kind: Literal["circle"] = "circle"
...     radius: float = 1.0
>>> shapes.names()
('circle',)
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any, Generic, TypeVar, Union

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from painvrl.core.errors import ConfigError
from painvrl.core.settings import Settings

T = TypeVar("T")

REGISTRIES: list[Registry[Any]] = []
"""All of them, in the order in which they were made."""

_NO_SOURCE = secrets.token_hex(8)
"""Stands for code that was typed in: nothing that it has made may outlive this process."""


class Registry(Generic[T]):
    """All choices of one kind, in the order of their registration.

    Args:
        kind: what a choice is called in messages, such as ``penalty``.
        group: the group of entry points that other distributions add theirs by.
        named_by: the attribute, or the field of settings, that holds a choice's name.
        within: the package whose modules register choices: a new file in it is found without being named.
    """

    def __init__(self, kind: str, *, group: str, named_by: str = "name", within: str | None = None) -> None:
        self._within = within
        self.kind = kind
        self.group = group
        self.named_by = named_by
        self._entries: dict[str, T] = {}
        self._is_complete = False
        REGISTRIES.append(self)

    def register(self, entry: T) -> T:
        """Add a choice, and return it, so that it also decorates a class.

        Raises:
            ValueError: another one has its name.
            TypeError: it is a class where an object is meant.
        """
        if isinstance(entry, type) and not issubclass(entry, Settings):
            raise TypeError(f"a {self.kind} is an object; register one, and not the class {entry.__name__}")
        name = self._name_of(entry)
        if self._entries.get(name, entry) is not entry:
            raise ValueError(f"there is another {self.kind} called {name!r}")
        self._entries[name] = entry
        return entry

    def names(self) -> tuple[str, ...]:
        """The names of all choices, those of other distributions last."""
        return tuple(self.entries())

    def entries(self) -> Mapping[str, T]:
        """All choices by name.

        Raises:
            ConfigError: an entry point cannot be loaded.
        """
        if not self._is_complete:
            if self._within is not None:
                package = importlib.import_module(self._within)
                for module in pkgutil.iter_modules(package.__path__, f"{self._within}."):
                    importlib.import_module(module.name)
            for point in entry_points(group=self.group):
                try:
                    self.register(point.load())
                except Exception as error:
                    whose = "" if point.dist is None else f" of the package {point.dist.name}"
                    rule = f"the entry point {point.name}{whose} cannot be loaded as a {self.kind}: {error}"
                    raise ConfigError(rule, key=self.group, value=point.value) from error
            self._is_complete = True
        return self._entries

    @property
    def loaded(self) -> Mapping[str, T]:
        """The choices that are there without loading an entry point."""
        return self._entries

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self.entries()

    def get(self, name: str) -> T:
        """The choice of that name.

        Raises:
            ValueError: there is none; the message lists those that there are.
        """
        if name not in self:
            raise ValueError(f"is no {self.kind}; known: {', '.join(self.names())} (found {name!r})")
        return self._entries[name]

    def _name_of(self, entry: T) -> str:
        fields: Mapping[str, Any] = getattr(entry, "model_fields", {}) if isinstance(entry, type) else {}
        if self.named_by in fields:
            return str(fields[self.named_by].default)
        return str(getattr(entry, self.named_by))


def foreign_code() -> list[tuple[str, str]]:
    """The source of all choices that are not painvrl's own, each with its name: results depend on it, too."""
    return sorted(
        (f"{registry.group}:{name}", source)
        for registry in REGISTRIES
        for name, entry in registry.loaded.items()
        for source in foreign_sources(entry)
    )


def foreign_sources(entry: object) -> list[str]:
    """The sources of the modules that a choice is made of, where they are not painvrl's own.

    An object of painvrl's own class counts by the functions and classes that it holds.
    """
    parts = [entry] if isinstance(entry, type) else [type(entry), *getattr(entry, "__dict__", {}).values()]
    modules = {str(part.__module__) for part in parts if callable(part) and hasattr(part, "__module__")}
    return [_source_of(module) for module in sorted(modules) if not _is_known(module)]


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in {"painvrl", "builtins"}


def _source_of(module: str) -> str:
    try:
        return inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError):
        return _NO_SOURCE


@dataclass(frozen=True)
class NameIn:
    """Marks a ``str`` field that holds a name of a registry: ``Annotated[str, NameIn(PENALTIES)]``.

    It validates as a ``Literal`` of the names would, and its JSON schema lists them; both ask the registry
    again, so that a choice may be added later.
    """

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """See pydantic."""
        return core_schema.no_info_plain_validator_function(
            self._known, serialization=core_schema.to_string_ser_schema()
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """See pydantic."""
        return {"enum": list(self.registry.names()), "type": "string"}

    def _known(self, name: object) -> str:
        if isinstance(name, str) and _has(self.registry, name):
            return name
        quoted = [repr(one) for one in self.registry.names()]
        expected = " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
        raise PydanticKnownError("literal_error", {"expected": expected})


@dataclass(frozen=True)
class SettingsIn:
    """Marks a field that holds settings out of a registry: ``Annotated[SplitRule, SettingsIn(PROTOCOLS)]``.

    It validates as a union of the registered classes would that the field ``named_by`` tells apart, and its
    JSON schema is that union's. With ``by_name``, a name alone stands for its class's defaults.
    """

    registry: Registry[Any]
    by_name: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """See pydantic."""
        return core_schema.no_info_plain_validator_function(
            # Pydantic puts the locations of errors inside behind that of the field.
            lambda value: self._union_for(named := self._named(value)).validate_python(named)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """See pydantic."""
        union = handler(self._union().core_schema)
        if not self.by_name:
            return union
        return {"anyOf": [{"enum": list(self.registry.names()), "type": "string"}, union]}

    def _named(self, value: object) -> object:
        return {self.registry.named_by: value} if self.by_name and isinstance(value, str) else value

    def _union_for(self, value: object) -> TypeAdapter[Any]:
        """The union of what is there, and of all entry points only where ``value`` is none of that."""
        name = value.get(self.registry.named_by) if isinstance(value, Mapping) else None
        if isinstance(name, str):
            _has(self.registry, name)
        return _union(tuple(self.registry.loaded.values()), self.registry.named_by)

    def _union(self) -> TypeAdapter[Any]:
        """The union of all; made again only when something was added."""
        return _union(tuple(self.registry.entries().values()), self.registry.named_by)


def _has(registry: Registry[Any], name: str) -> bool:
    """Whether there is such a choice.

    Raises:
        ValueError: there is none without loading entry points, and one of these cannot be loaded.
    """
    try:
        return name in registry
    except ConfigError as error:
        known = ", ".join(registry.loaded)
        raise ValueError(f"must be one of {known} (found {name!r}); of other packages: {error}") from error


@functools.lru_cache(maxsize=64)
def _union(members: tuple[type[Any], ...], named_by: str) -> TypeAdapter[Any]:
    # Made of a tuple at run time, so no type checker can follow.
    union: Any = Annotated[Union[members], Field(discriminator=named_by)]  # noqa: UP007
    return TypeAdapter(union)
