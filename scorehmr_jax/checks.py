"""Checks at the door: what a Python caller gives, before anything is traced or compiled."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Shaped

from body_model.arithmetic import native, native_fields
from scorehmr_jax import units
from scorehmr_jax.shapes import Shape, concrete, fits_plainly, floating, in_one_way
from scorehmr_jax.terms import Term
from scorehmr_jax.types import Array, Estimate, Refined


def check_units(estimate: Estimate, terms: tuple[Term, ...]) -> None:
    """Refuses or warns of numbers that are in other units. Traced numbers cannot be seen.

    Args:
        estimate: of shapes that fit.
        terms: each holds its own against the estimate.
    Raises:
        ValueError: naming the array, what was expected and what was found.
    """
    given = concrete(estimate.betas, estimate.translation)
    if given is None:
        return
    betas, translation = given
    units.check_betas(betas, "estimate.betas")
    units.check_translation(translation, "estimate.translation")
    for term in terms:
        term.check_units(estimate)


def check_shapes(estimate: Estimate | Refined, num_betas: int | None = None) -> Shape:
    """The samples' axes of an estimate, which are those of its pose.

    Args:
        estimate: pose [..., N, 24, 3, 3]; betas and translation of the same samples, or of fewer
            axes before N, which then serve all.
        num_betas: shape numbers that are expected; any by default.
    Raises:
        ValueError: if shapes do not fit, or there are no samples.
    """
    names = ("pose", "betas", "translation")
    if not all(hasattr(estimate, name) for name in names):
        text = "give its field estimate" if hasattr(estimate, "estimate") else "build an Estimate"
        raise ValueError(
            f"estimate: expected pose, betas and translation, found {type(estimate).__name__}; "
            f"{text}"
        )
    native_fields("estimate", estimate, type(estimate))
    shapes = {name: jnp.shape(getattr(estimate, name)) for name in names}
    any_betas = shapes["betas"][-1] if shapes["betas"] else 10
    expected = {
        "pose": (24, 3, 3),
        "betas": (any_betas if num_betas is None else num_betas,),
        "translation": (3,),
    }
    for name, tail in expected.items():
        shape = shapes[name]
        if len(shape) <= len(tail) or shape[-len(tail) :] != tail:
            tail_text = ", ".join(map(str, tail))
            raise ValueError(f"estimate.{name}: expected [..., N, {tail_text}], found {shape}")
    batch, betas, translation = (shapes[name][: -len(tail)] for name, tail in expected.items())
    if not fits_plainly(betas, batch) or not fits_plainly(translation, batch):
        raise ValueError(
            "estimate: pose, betas and translation disagree on the samples: "
            f"{batch}, {betas} and {translation}"
            f"{in_one_way(betas, batch) or in_one_way(translation, batch)}"
        )
    if 0 in batch:
        raise ValueError("estimate: no samples (an empty sequence or batch)")
    return batch


def checked_estimate(estimate: Estimate, num_betas: int | None = None) -> Estimate:
    """An estimate of one batch and precision. Arguments and errors are those of `check_shapes`."""
    batch = check_shapes(estimate, num_betas)
    estimate = native_fields("estimate", estimate, Estimate)
    # The pose decides the precision of all that the loop carries.
    pose = floating(estimate.pose)
    betas, translation = (
        jnp.asarray(array).astype(pose.dtype) for array in (estimate.betas, estimate.translation)
    )
    return Estimate(
        pose,
        jnp.broadcast_to(betas, (*batch, betas.shape[-1])),
        jnp.broadcast_to(translation, (*batch, 3)),
    )


def checked_mask(mask: Shaped[Array, "..."] | None, batch: Shape) -> Bool[Array, "..."] | None:
    """A mask of True and False.

    Args:
        mask: True or 1 for samples, False or 0 for padding; for all samples, or of fewer axes.
        batch: the samples' axes.
    Raises:
        ValueError: if it does not fit, or holds other numbers.
    """
    if mask is None:
        return None
    mask = native("mask", mask)
    if not fits_plainly(jnp.shape(mask), batch):
        raise ValueError(
            f"mask: expected one for each estimate {batch}, found shape {jnp.shape(mask)}"
            f"{in_one_way(jnp.shape(mask), batch)}"
        )
    if mask.dtype == bool:
        return mask
    given = concrete(mask)
    if given is None:
        return mask.astype(bool)
    if not np.isin(given[0], (0, 1)).all():
        raise ValueError(
            "mask: expected True or False for each sample, found numbers from "
            f"{given[0].min()} to {given[0].max()}"
        )
    return given[0].astype(bool)
