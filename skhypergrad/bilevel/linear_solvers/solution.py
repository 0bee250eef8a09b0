"""What every linear solver returns."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from skhypergrad.bilevel.problem import dual_norm


class LinearSolution(NamedTuple):
    """A solution and the evidence for it.

    Attributes
    ----------
    x : (n,)
    residual : scalar
        |b - A x| / |b|, recomputed from `x`, in the metric of the preconditioner; 0 where b is 0 and NaN where the
        solve broke down, so that `residual <= tol` is False then.
    steps : int, products with the matrix
    """

    x: Any
    residual: Any
    steps: Any


def verified(operator, b, x, steps, left=None) -> LinearSolution:
    """Recompute the residual of `x`, or take it as `left`; a zero right-hand side has the solution zero, exactly."""
    norm = dual_norm(operator.precondition, b)
    zero = norm == 0
    x = jnp.where(zero, 0.0, x)
    left = b - operator.product(x) if left is None else left
    residual = jnp.where(zero, 0.0, dual_norm(operator.precondition, left) / jnp.where(zero, 1.0, norm))
    # dual_norm clips at zero, which would turn the NaN of a broken solve into a perfect residual on some backends
    residual = jnp.where(jnp.all(jnp.isfinite(x)), residual, jnp.nan)
    return LinearSolution(x=x, residual=residual, steps=steps)
