"""Choose a component with its options; used by recipes, studies' options, Python and the conformance kit."""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ddm_framework.errors import DDMError, Place, shown
from ddm_framework.plugin.choice import Choice, Grid
from ddm_framework.plugin.registry import Registered, Registry
from ddm_framework.plugin.signatures import ComponentOf, Signature, mentions, read_signature

NO_OPTIONS: Mapping[str, Any] = {}
Chosen = TypeVar("Chosen", Choice, Grid)
Fit = Callable[[Registered, Mapping[str, Any], Place], Chosen | None]


def choose(
    registry: Registry, kind: str, name: str, options: Mapping[str, Any] = NO_OPTIONS, folder: Path | None = None
) -> Choice:
    """A component with its options; options that are left out have their defaults.

    Args:
        registry: where components are looked up.
        kind, name: of the component.
        options: values as written in a recipe or in Python: text is accepted for a path, a list for a tuple, and
            `{use: name, option: value}` for another component.
        folder: the folder that relative paths start from; the current folder by default.
    Raises:
        DDMError: if the name is unknown, or options are wrong; the message names all of them.
    """
    return choose_registered(registry.get(kind, name), registry, options, folder)


def choose_registered(
    registered: Registered, registry: Registry, options: Mapping[str, Any] = NO_OPTIONS, folder: Path | None = None
) -> Choice:
    """As `choose`, for a given component, which need not be the one that the registry holds under its name."""
    fitting = _by_hand(registry, folder)
    return fitting.sound(fitting.choice(registered, options, ()))


def choose_grid(
    registry: Registry, kind: str, name: str, options: Mapping[str, Any] = NO_OPTIONS, folder: Path | None = None
) -> Grid:
    """A component with every combination of the values listed for its options; arguments and errors as `choose`."""
    fitting = _by_hand(registry, folder)
    return fitting.sound(fitting.grid(registry.get(kind, name), options, ()))


def _by_hand(registry: Registry, folder: Path | None) -> Fitting:
    return Fitting(registry, lambda _: folder or Path.cwd())


class Fitting:
    """Walks over the options of a component and of the components among them, and collects all problems.

    Attributes:
        registry: where components are looked up.
        folder_of: the folder that a relative path starts from, given its place.
        misfits: place and message of all problems so far, in order; combinations of a grid repeat the same ones.
    """

    def __init__(self, registry: Registry, folder_of: Callable[[Place], Path]) -> None:
        self.registry = registry
        self.folder_of = folder_of
        self.misfits: dict[tuple[Place, str], None] = {}

    def add(self, place: Place, message: str) -> None:
        """Note a problem."""
        self.misfits[place, message] = None

    def sound(self, chosen: Chosen | None) -> Chosen:
        """What was chosen.

        Raises:
            DDMError: with all problems, if there is nothing.
        """
        if chosen is None:
            raise DDMError("\n".join(message for _, message in self.misfits))
        return chosen

    def component(self, kind: str, fit: Fit[Chosen], value: Any, place: Place) -> Chosen | None:
        """A component as it is written, with its options fitted by `choice` or `grid`; None if something is wrong."""
        if isinstance(value, Choice | Grid) and value.kind == kind:
            return value  # type: ignore[return-value]
        if not is_component(value):
            self.add(place, f"{kind}: write {{use: name, option: value}}, found {shown(value)}")
            return None
        try:
            registered = self.registry.get(kind, value["use"])
        except DDMError as error:
            self.add((*place, "use"), str(error))
            return None
        return fit(registered, {name: each for name, each in value.items() if name != "use"}, place)

    def choice(
        self, registered: Registered, given: Mapping[str, Any], place: Place, core_names: Sequence[str] = ()
    ) -> Choice | None:
        """One component with its options; None if something is wrong with it."""
        try:
            target = registered.load()
            signature = read_signature(target, registered.kind, registered.who)
        except DDMError as error:
            self.add((*place, "use"), str(error))
            return None
        fitted = self._fitted(signature, given, place)
        wrong = {where[len(place)] for where, _ in self.misfits if where[: len(place)] == place}
        sound = {name: value for name, value in fitted.items() if name not in wrong}
        kind, own = registered.kind, registered.component.name
        values, problems = signature.validated(sound, f"{kind} {own!r}", core_names)
        for within, message in problems:
            self.add((*place, *within), f"{message}; `ddm show {kind} {own}` explains them")
        if wrong or values is None:
            return None
        options = {name: getattr(values, name) for name in signature.names}
        # Defaults are treated like given values: their paths are resolved and their components chosen too.
        options |= self._fitted(signature, {name: options[name] for name in options if name not in given}, place)
        return Choice(kind, own, options, target, fitted, registered.home, registered.plugin)

    def grid(self, registered: Registered, given: Mapping[str, Any], place: Place) -> Grid | None:
        """A component whose options may list values to try. A list that is valid as it stands counts as one value."""
        tried = {name: self._tried(registered, name, value, place) for name, value in given.items()}
        combinations = [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]
        choices = [self.choice(registered, options, place) for options in combinations]
        sound = tuple(choice for choice in choices if choice is not None)
        if not sound or len(sound) < len(choices):
            return None
        return Grid(sound, {name: _seen(sound, name, len(values)) for name, values in tried.items()})

    def _tried(self, registered: Registered, name: str, value: Any, place: Place) -> list[Any]:
        """The values to try for one option."""
        if not isinstance(value, list):
            return [value]
        alone = Fitting(self.registry, self.folder_of).choice(registered, {name: value}, place)
        return [value] if alone is not None or not value else value

    def _fitted(self, signature: Signature, values: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """Values with paths resolved and components chosen; those of unknown options stay unchanged."""
        hints = {option.name: option.hint for option in signature.options}
        return {name: self.value(hints.get(name), value, (*place, name)) for name, value in values.items()}

    def value(self, hint: Any, value: Any, place: Place) -> Any:
        """The value in the form that its type requires, for paths and components, which a recipe writes differently."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if hint is Path:
            return self._path(value, place)
        if origin is typing.Annotated:
            kind = next((mark.kind for mark in hint.__metadata__ if isinstance(mark, ComponentOf)), None)
            inner = arguments[0]
            return self.value(inner, value, place) if kind is None else self._components(kind, inner, value, place)
        if origin in (typing.Union, types.UnionType):
            return self._member(arguments, value, place)
        if origin is list and isinstance(value, list):
            return [self.value(arguments[0], each, (*place, index)) for index, each in enumerate(value)]
        if origin is tuple and isinstance(value, list | tuple):
            kinds = arguments[:1] * len(value) if Ellipsis in arguments else arguments
            if len(kinds) != len(value):
                return value
            pairs = enumerate(zip(kinds, value, strict=True))
            return type(value)([self.value(each, one, (*place, index)) for index, (each, one) in pairs])
        if origin is dict and isinstance(value, dict):
            return {key: self.value(arguments[1], each, (*place, key)) for key, each in value.items()}
        return value

    def _member(self, hints: Sequence[Any], value: Any, place: Place) -> Any:
        """A value of one of several types: text becomes a path only if no other type accepts it as text."""
        if isinstance(value, str) and any(hint is str or value in typing.get_args(hint) for hint in hints):
            return value
        fitted = (self.value(hint, value, place) for hint in hints)
        return next((each for each in fitted if each is not value), value)

    def _path(self, value: Any, place: Place) -> Any:
        if not isinstance(value, str | Path):
            return value
        try:
            return (self.folder_of(place) / Path(value).expanduser()).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            self.add(place, f"{shown(value)} is not a valid path: {error}")
            return Path(value)

    def _components(self, kind: str, hint: Any, value: Any, place: Place) -> Any:
        """The component, or list of components, that an option takes."""
        fit: Fit[Any] = self.grid if mentions(hint, Grid) else self.choice
        if value is None:
            return None
        if isinstance(value, list | tuple):
            return [self.component(kind, fit, each, (*place, index)) for index, each in enumerate(value)]
        return self.component(kind, fit, value, place)


def is_component(value: Any) -> bool:
    """Whether a value has the form `{use: name, option: value}`."""
    return isinstance(value, Mapping) and isinstance(value.get("use"), str)


def _seen(choices: Sequence[Choice], name: str, count: int) -> Any:
    """The value of an option, or the list of values that are tried."""
    values = [choice.given[name] for choice in choices]
    distinct = [value for place, value in enumerate(values) if value not in values[:place]]
    return distinct if count > 1 else values[0]
