"""What a term is: a loss on a hypothesis, with a weight, whose gradient guides the sampling.

The paper's terms are in guidance.py.

A term is any function from a `Hypothesis` of samples [..., N] to losses [..., N]. The last
axis, N, is the group: the frames of one video, the views of one person, or images that have
nothing to do with each other. Those of guidance.py are pytrees: observations and weights are
traced, so that changing them never recompiles. A function of your own has that too if it is a
pytree: `jax.tree_util.Partial(loss, observations)`; a plain function's own data is compiled in.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Real

from body_model.pytree import pytree
from scorehmr_jax.shapes import concrete, fits_plainly, in_one_way, numbers, same_dtype
from scorehmr_jax.types import Array, Estimate, Hypothesis, Number


class Term:
    """A loss with its weight, and the samples that it can judge.

    A plain function is wrapped in one by `weighted`. A class of your own, derived from this one
    and made a pytree, may say more: which samples it has evidence about, which it cannot judge.
    """

    weight: Any  # one number, or one for each sample
    # True if the loss is a squared misfit of each sample to what was measured of it, robust or not.
    measures: bool = False

    def __call__(self, hypothesis: Hypothesis) -> Real[Array, "*N"]:
        """Unweighted loss of each sample."""
        raise NotImplementedError

    def informs(self, first: Hypothesis) -> Bool[Array, "*N"]:
        """True for the samples that the term has evidence about."""
        return jnp.ones_like(first.mask)

    def usable(self, first: Hypothesis) -> Bool[Array, "*N"]:
        """True for the samples that can be judged, such as those before the camera."""
        return jnp.ones_like(first.mask)

    def tempered(self, estimate: Estimate, largest: float) -> "Term":
        """The term with less weight where a person appears so large that its pull would overshoot.

        Args:
            estimate: [..., N] the first.
            largest: pixels per metre, in an image whose longer side has 1000.
        """
        return self

    def check_units(self, estimate: Estimate) -> None:
        """Raises a ValueError if its numbers and the estimate's cannot be in the same units.

        Numbers that are traced cannot be seen.
        """


@pytree
class FunctionTerm(Term):
    """A function of the user's, with a weight. Build it with `weighted`."""

    weight: Float[Array, "..."]
    function: Callable[[Hypothesis], Array]  # a pytree, what it carries being traced

    def __call__(self, hypothesis: Hypothesis) -> Real[Array, "*N"]:
        loss = jnp.asarray(self.function(hypothesis))
        wanted = hypothesis.mask.shape
        if loss.shape != wanted:
            raise ValueError(
                f"term {name_of(self)}: expected one loss per sample, shape {wanted}, found "
                f"{loss.shape}"
            )
        return loss


@pytree
class WeightedTerm(Term):
    """Another term, times a number."""

    factor: Float[Array, "..."]
    term: Term

    @property
    def weight(self) -> Float[Array, "..."]:
        factor, weight = jnp.broadcast_arrays(*same_dtype(self.factor, self.term.weight))
        return factor * weight

    @property
    def measures(self) -> bool:  # type: ignore[override]
        return self.term.measures

    def __call__(self, hypothesis: Hypothesis) -> Real[Array, "*N"]:
        return self.term(hypothesis)

    def informs(self, first: Hypothesis) -> Bool[Array, "*N"]:
        return self.term.informs(first)

    def usable(self, first: Hypothesis) -> Bool[Array, "*N"]:
        return self.term.usable(first)

    def tempered(self, estimate: Estimate, largest: float) -> "Term":
        return replace(self, term=self.term.tempered(estimate, largest))

    def check_units(self, estimate: Estimate) -> None:
        self.term.check_units(estimate)


def plain(term: Term) -> Term:
    """Takes the weights of `weighted` off a term."""
    while isinstance(term, WeightedTerm):
        term = term.term
    return term


def weighted(weight: Number | Real[Array, "..."], term: Term | Callable[[Hypothesis], Any]) -> Term:
    """A term times a number, which may be traced.

    Args:
        weight: multiplies the term's own weight; a plain function's own weight is 1. One number,
            or one for each sample [..., N].
        term: a term, or a function from a hypothesis to a loss per sample [..., N]. What a
            function carries is traced if it is a pytree, such as `jax.tree_util.Partial`.
    Returns:
        A term.
    Raises:
        ValueError: if term is neither, or a function that can be neither traced nor hashed.
    """
    if isinstance(term, Term):
        return WeightedTerm(as_weight(weight), term)
    if not callable(term):
        raise ValueError(
            "term: expected a function from a hypothesis to a loss per sample, or one of "
            f"keypoints_2d, multiview, smooth; found {type(term).__name__}"
        )
    if jax.tree_util.all_leaves([term]):
        try:
            hash(term)
        except TypeError:
            raise ValueError(
                f"term: {type(term).__name__} can neither be traced nor hashed; register it as a "
                "pytree, or pass jax.tree_util.Partial(function, data)"
            ) from None
        term = jax.tree_util.Partial(term)
    return FunctionTerm(as_weight(weight), term)


def as_terms(terms: Any) -> tuple[Term, ...]:
    """One term or several, functions wrapped.

    Args:
        terms: a term or a function, or a list or tuple of them.
    Raises:
        ValueError: if there is none, or something is no term.
    """
    several = terms if isinstance(terms, tuple | list) else (terms,)
    if not several:
        raise ValueError("terms: expected at least one, such as keypoints_2d(...), found none")
    return tuple(t if isinstance(t, Term) else weighted(1.0, t) for t in several)


def total_loss(
    terms: Sequence[Term], hypothesis: Hypothesis
) -> tuple[Float[Array, ""], Float[Array, "*N"]]:
    """The sum that guides, and what each sample adds to it before weights.

    Args:
        terms: at least one.
        hypothesis: samples outside its mask count 0.
    Returns:
        The weighted sum over terms and samples, and the unweighted sum over terms [..., N]; in
        the hypothesis' precision, whatever that of the observations.
    Raises:
        ValueError: if a term's weights or losses are not one for each sample.
    """
    shape, dtype = hypothesis.mask.shape, hypothesis.pose_6d.dtype
    total, losses = jnp.zeros((), dtype), jnp.zeros_like(hypothesis.pose_6d[..., 0])
    for term in terms:
        each = jnp.where(hypothesis.mask, term(hypothesis), 0).astype(dtype)
        weight = jnp.asarray(term.weight, dtype)
        if not fits_plainly(weight.shape, shape):
            raise ValueError(
                f"term {name_of(term)}: weight: expected one number, or one for each estimate "
                f"{shape}, found {weight.shape}{in_one_way(weight.shape, shape)}"
            )
        # Before the product: an infinite weight times 0 would be no number.
        weight = jnp.where(hypothesis.mask, weight, 0)
        total, losses = total + jnp.sum(weight * each), losses + each
    return total, losses


def misfit(terms: Sequence[Term], hypothesis: Hypothesis) -> Float[Array, "*N"] | None:
    """The misfit of each sample to what was measured of it.

    Args:
        terms: at least one.
        hypothesis: samples outside its mask count 0.
    Returns:
        The weighted sum over the terms that measure, [..., N]; None if none does.
    """
    measuring = [term for term in terms if term.measures]
    if not measuring:
        return None
    dtype, shape = hypothesis.pose_6d.dtype, hypothesis.mask.shape
    total = jnp.zeros(shape, dtype)
    for term in measuring:
        weight = jnp.broadcast_to(jnp.asarray(term.weight, dtype), shape)
        loss = jnp.where(hypothesis.mask, term(hypothesis), 0).astype(dtype)
        total = total + jnp.where(weight == 0, 0, weight * loss)
    return total


def as_weight(weight: Number, least: float = -np.inf) -> Float[Array, "..."]:
    """A weight in the one dtype that all have; another dtype would compile anew.

    Args:
        weight: one number, or one for each sample; traced ones are not checked.
        least: that it may be. A negative one leads away from what the term asks for.
    Raises:
        ValueError: if a weight is not finite, or is less.
    """
    weight = numbers("weight", weight)
    known = concrete(weight)
    if known is not None and not (np.isfinite(known[0]) & (known[0] >= least)).all():
        text = "finite numbers" if least == -np.inf else f"finite numbers of at least {least:g}"
        raise ValueError(f"weight: expected {text}, found {weight}")
    dtype = jnp.result_type(float)
    if isinstance(weight, jax.Array):
        return weight.astype(dtype)
    # Named as a transfer, which guards against the silent ones let pass.
    return jax.device_put(np.asarray(weight, dtype))


def name_of(term: Any) -> str:
    """The name of a term, or of the function that it wraps."""
    while isinstance(term, WeightedTerm):
        term = term.term
    function = getattr(term, "function", term)
    function = getattr(function, "func", function)
    return getattr(function, "__name__", type(function).__name__)
