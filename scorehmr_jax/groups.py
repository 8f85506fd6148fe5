"""Groups of unequal size as one padded array and a mask: many sequences in one call of `refine`.

together, mask = stack_groups([(estimate, features, keypoints, camera), ...])
estimate, features, keypoints, camera = together
refined, info = refine(prior, body, estimate, features, terms, mask=mask)
each = unstack_groups(refined, mask)
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PyTree, Shaped

from body_model.arithmetic import native
from scorehmr_jax.camera import FIELD_AXES
from scorehmr_jax.types import Array, Camera, Estimate, Info, Keypoints2D, Keypoints3D

# Axes of a sample of the types that samples are made of: by name, those that are lists of samples
# are told from one that serves all.
_SAMPLE_AXES = {
    Estimate: {"pose": 3, "betas": 1, "translation": 1},
    Keypoints2D: {"xy": 2, "confidence": 1},
    Keypoints3D: {"xyz": 2, "confidence": 1},
    Camera: {name: len(axes) for name, axes in FIELD_AXES.items()},
}


def stack_groups(
    groups: Sequence[PyTree[Shaped[Array, "..."]]], *, multiple: int = 1
) -> tuple[PyTree[Shaped[Array, "..."]], Bool[np.ndarray, "G N"]]:
    """Pads groups to one size and stacks them.

    A group is any pytree (an Estimate, a tuple with features and keypoints) whose leaves all
    have the group's N samples as their first axis. Padding repeats the last sample: harmless
    numbers, which the mask tells `refine` to ignore.

    Args:
        groups: G groups of one kind, of any sizes of at least one. What serves all samples, such
            as one camera, is to be repeated first.
        multiple: the common size is rounded up to a multiple of this, so that data of about one
            length share a compilation.
    Returns:
        The pytree with leaves [G, N_max, ...], and the mask [G, N_max], False for padding. Leaves
        are numpy arrays, unless an input is traced.
    Raises:
        ValueError: if there are no groups, one is empty, their structures or shapes differ, the
            leaves of a group differ in size, or multiple is not positive.
    """
    if multiple < 1:
        raise ValueError(f"multiple: expected a positive number, found {multiple}")
    if not len(groups):
        raise ValueError("groups: expected at least one, found none")
    sizes = [_size(group, f"groups[{i}]") for i, group in enumerate(groups)]
    structures: list[Any] = [jax.tree.structure(group) for group in groups]
    for i, structure in enumerate(structures):
        if not structure == structures[0]:
            raise ValueError(
                f"groups[{i}]: expected the structure of groups[0], {structures[0]}, "
                f"found {structure}"
            )
    length = -(-max(sizes) // multiple) * multiple
    rows = [np.minimum(np.arange(length), size - 1) for size in sizes]

    def stack(path: Any, *leaves: Any) -> Any:
        tails = [np.shape(leaf)[1:] for leaf in leaves]
        for i, tail in enumerate(tails):
            if tail != tails[0]:
                raise ValueError(
                    f"groups[{i}]{jax.tree_util.keystr(path)}: expected samples of shape "
                    f"{tails[0]} as in groups[0], found {tail}"
                )
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return jnp.stack([jnp.asarray(x)[r] for x, r in zip(leaves, rows, strict=True)])
        return np.stack([np.asarray(x)[r] for x, r in zip(leaves, rows, strict=True)])

    stacked = jax.tree_util.tree_map_with_path(stack, *groups)
    return stacked, np.arange(length) < np.array(sizes)[:, None]


def unstack_groups(
    tree: PyTree[Shaped[Array, "..."]],
    sizes: Sequence[int] | Shaped[Array, "..."],
    *,
    axis: int | None = None,
) -> list[PyTree[Shaped[Array, "..."]]]:
    """Takes groups apart and their padding away; undoes `stack_groups`.

    Args:
        tree: leaves [G, N_max, ...], such as a `Refined`; of an `Info`, each has the axes that it
            has there.
        sizes: the G sizes, or the mask [G, N_max].
        axis: where G is; 0 by default, and 1 for the losses of an `Info` given alone, which have
            the steps before it.
    Returns:
        G pytrees with leaves [N, ...].
    Raises:
        ValueError: if a leaf has other axes, a single array could have the groups in two places,
            sizes are none, or a mask has padding before a sample.
    """
    if isinstance(tree, Info) and axis is None:
        rest = {name: leaf for name, leaf in vars(tree).items() if name != "losses"}
        first = unstack_groups(rest, sizes, axis=0)
        losses = unstack_groups(tree.losses, sizes, axis=1)
        return [Info(**group, losses=loss) for group, loss in zip(first, losses, strict=True)]
    given = np.asarray(sizes)
    whole = np.issubdtype(given.dtype, np.integer) and (given >= 0).all()
    if not (given.ndim == 2 and (whole or given.dtype == bool)) and not (given.ndim == 1 and whole):
        raise ValueError(
            "sizes: expected the sizes [G] of the groups, or their mask [G, N_max], found "
            f"{given.dtype} of shape {given.shape}"
        )
    counts = given.sum(axis=1) if given.ndim == 2 else given
    if given.ndim == 2 and (given != (np.arange(given.shape[1]) < counts[:, None])).any():
        raise ValueError("sizes: expected a mask with all padding at the end of each group")
    longest = given.shape[1] if given.ndim == 2 else max(counts, default=0)
    if axis is None:
        single: tuple[int, ...] = np.shape(tree) if jax.tree_util.all_leaves([tree]) else ()
        axis, shape = 0, single
        # Losses [S, G, N] of as many steps as there are groups.
        if len(shape) == 3 and shape[:2] == (len(counts),) * 2 and shape[2] == longest <= shape[1]:
            raise ValueError(
                f"tree: the groups could be the first axis of shape {shape} or the second; give "
                "axis=0 or axis=1 (for `Info.losses`)"
            )
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        shape = np.shape(leaf)
        found = shape[axis : axis + 2]
        if len(found) < 2 or found[0] != len(counts) or found[1] < longest:
            raise ValueError(
                f"tree{jax.tree_util.keystr(path)}: expected {len(counts)} groups of {longest} "
                f"samples at axis {axis}, found shape {shape}"
            )
    before = (slice(None),) * axis
    return [
        jax.tree.map(lambda leaf, g=g, n=n: leaf[(*before, g)][(*before, slice(n))], tree)
        for g, n in enumerate(counts.tolist())
    ]


def mean_of_group(numbers: Float[Array, "*N M"], among: Bool[Array, "*N"]) -> Float[Array, "*N M"]:
    """The mean over some samples of each group, for each of them; the others keep their numbers.

    Args:
        numbers: [..., N, M].
        among: [..., N] the samples that are averaged; what the others hold may be anything.
    """
    total = jnp.where(among[..., None], numbers, 0).sum(-2, keepdims=True)
    count = jnp.maximum(among.sum(-1)[..., None, None], 1).astype(numbers.dtype)
    return jnp.where(among[..., None], total / count, numbers)


def _size(group: Any, name: str) -> int:
    """The number of samples of a group."""
    for part in jax.tree.leaves(group, is_leaf=lambda part: type(part) in _SAMPLE_AXES):
        for field, axes in _SAMPLE_AXES.get(type(part), {}).items():
            value = getattr(part, field)
            if value is not None:
                native(f"{name}: {type(part).__name__}.{field}", value)
            shape = np.shape(value)
            if value is not None and len(shape) != axes + 1:
                raise ValueError(
                    f"{name}: {type(part).__name__}.{field}: expected one for each sample [N, ...],"
                    f" of {axes + 1} axes, found shape {shape}"
                )
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(group):
        if not hasattr(leaf, "shape") and not isinstance(leaf, int | float):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: expected arrays [N, ...], found "
                f"{type(leaf).__name__}; give its parts as a tuple"
            )
        if np.ndim(leaf) == 0:
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: expected [N, ...], found a scalar"
            )
        found[jax.tree_util.keystr(path)] = np.shape(leaf)[0]
    if not found or 0 in found.values():
        raise ValueError(f"{name}: expected at least one sample, found none")
    if len(set(found.values())) > 1:
        raise ValueError(f"{name}: expected one number of samples in all leaves, found {found}")
    return next(iter(found.values()))
