"""The public names of both packages with what can be given to them, as text.

    python tests/public_names.py

writes tests/public_names.txt. A name that goes or changes needs a line in CHANGELOG.md.
"""

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import body_model
import scorehmr_jax

FILE = Path(__file__).with_suffix(".txt")


def public_names() -> str:
    """Lists every public name; of a class, its fields and methods too."""
    lines = [
        line
        for package in (body_model, scorehmr_jax)
        for name in sorted(package.__all__)
        for line in _described(f"{package.__name__}.{name}", getattr(package, name))
    ]
    return "\n".join(lines) + "\n"


def _described(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"class {name}"
        fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
        yield from (f"    {field.name}{_default(field)}" for field in fields)
        for member, found in sorted(vars(value).items()):
            if not member.startswith("_") or member == "__call__":
                yield from _member(member, found, {field.name for field in fields})
    elif callable(value):
        yield f"{name}{_parameters(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def _member(name: str, value: Any, fields: set[str]) -> Iterator[str]:
    if isinstance(value, classmethod | staticmethod):
        yield f"    {name}{_parameters(value.__func__)}"
    elif isinstance(value, property):
        yield f"    {name} (property)"
    elif callable(value):
        yield f"    {name}{_parameters(value)}"
    elif name not in fields:
        yield f"    {name}"


def _parameters(function: Any) -> str:
    """Names, order, kinds and defaults; annotations may grow without anybody's harm."""
    signature = inspect.signature(function)
    plain = []
    for parameter in signature.parameters.values():
        plain.append(parameter.replace(annotation=parameter.empty))
        if parameter.default is not parameter.empty:
            plain[-1] = plain[-1].replace(default=_Short(parameter.default))
    return str(inspect.Signature(plain))


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        return f" = {_Short(field.default)!r}"
    return " = ..." if field.default_factory is not dataclasses.MISSING else ""


class _Short:
    """A default that is shown if it is short."""

    def __init__(self, value: Any):
        self.value = value

    def __repr__(self) -> str:
        text = repr(self.value)
        return text if len(text) < 40 else "..."


if __name__ == "__main__":
    FILE.write_text(public_names())
