"""Frozen dataclasses that pass through jit, vmap, grad and `jax.export`."""

import dataclasses
import json
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np
from jax import export

Array = jax.Array | np.ndarray
Number = float | np.number | Array  # one number of any kind, or an array of them

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def pytree(cls: type[T]) -> type[T]:
    """Makes a class a frozen dataclass and a pytree.

    Every field is a child, unless it is declared as `field(metadata={"static": True})`; static
    fields must be hashable. The metadata of one that JSON cannot hold has two functions, `to_json`
    and `from_json`, that turn it into what JSON can hold and back. Trees are put together without
    `__init__`, so that `jax.tree.map` may fill a field with anything: shapes, shardings, None.

    Args:
        cls: a class with annotated fields.
    Returns:
        The class. Its values can be arguments and results of a function that `jax.export` writes
        to a file, as long as JSON can hold its static fields.
    """
    frozen = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(frozen)  # type: ignore[arg-type]
    static = tuple(f.name for f in fields if f.metadata.get("static"))
    as_json = [
        (f.metadata.get("to_json", _same), f.metadata.get("from_json", _same))
        for f in fields
        if f.metadata.get("static")
    ]
    children = tuple(f.name for f in fields if not f.metadata.get("static"))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in children)

    def flatten(value: Any) -> tuple[tuple, tuple]:
        own = vars(value)
        return tuple(own[name] for name in children), tuple(own[name] for name in static)

    def flatten_with_keys(value: Any) -> tuple[tuple, tuple]:
        values, rest = flatten(value)
        return tuple(zip(keys, values, strict=True)), rest

    def unflatten(rest: tuple, values: Any) -> Any:
        value = object.__new__(frozen)
        vars(value).update(zip(children, values, strict=True))
        vars(value).update(zip(static, rest, strict=True))
        return value

    def to_bytes(rest: tuple) -> bytes:
        values = zip(as_json, rest, strict=True)
        return json.dumps([encode(value) for (encode, _), value in values]).encode()

    def from_bytes(data: bytes) -> tuple:
        values = zip(as_json, _hashable(json.loads(data.decode())), strict=True)
        return tuple(decode(value) for (_, decode), value in values)

    jax.tree_util.register_pytree_with_keys(frozen, flatten_with_keys, unflatten, flatten)
    export.register_pytree_node_serialization(
        frozen,
        serialized_name=f"{cls.__module__}.{cls.__qualname__}",
        serialize_auxdata=to_bytes,
        deserialize_auxdata=from_bytes,
        from_children=unflatten,  # type: ignore[arg-type]
    )
    return frozen


def _same(value: Any) -> Any:
    return value


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
