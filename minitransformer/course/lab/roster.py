"""The methods that the laboratory measures: every one that the library has, known by its file."""

from __future__ import annotations

import inspect

from minitransformer.tuning import Method, methods


def own_methods() -> dict[str, type[Method]]:
    """The library's methods by class name; not those that a test or a reader has made elsewhere."""
    return {name: kind for name, kind in methods().items() if kind.__module__.startswith("minitransformer.tuning.")}


def size_name(kind: type[Method]) -> str | None:
    """What a method's size is called: its first argument, if that is a whole number by default; else None."""
    first = next(iter(inspect.signature(kind).parameters.values()), None)
    return first.name if first is not None and type(first.default) is int else None
