"""A bilevel problem: what is fitted, and what the fit is judged by.

    minimise  outer(params*, hyper, data)  over hyper,   params* = argmin over params of  inner(params, hyper, data)

>>> problem = Problem(
...     inner=lambda w, hyper, data: (w - data) ** 2 / 2 + hyper["alpha"] * w**2 / 2,
...     outer=lambda w, hyper, data: (w - 1.0) ** 2,
...     init=lambda hyper, data: 0.0 * data,
... )
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree


@dataclass(frozen=True)
class Problem:
    """One task's inner and outer objective, as pure JAX functions.

    Parameters
    ----------
    inner : callable, (params, hyper, data) -> scalar
        Training objective; smooth and, for `Implicit`, with a unique minimiser.
    outer : callable, (params, hyper, data) -> scalar
        Validation objective; may depend on `hyper` explicitly.
    init : callable, (hyper, data) -> params
        Starting weights; may depend on `hyper` (a learned initialisation).
    batch : callable, (data, step) -> data, default=None
        The mini-batch of inner step `step`, for solvers that are unrolled; None for full batches.
    precondition : callable, (params, hyper, data) -> (v -> pytree like v), default=None
        A symmetric positive definite approximation of the inverse Hessian of `inner`, as a map of pytrees like params.
        It decides speed and the norm in which residuals are measured, never the solution. None for the identity.

    Notes
    -----
    A problem is compared by identity of its functions and is a static argument of compiled code: build it once (at
    module level, or behind a cache), not in a loop.
    """

    inner: Callable
    outer: Callable
    init: Callable
    batch: Callable | None = None
    precondition: Callable | None = None


def flat_preconditioner(problem: Problem, params: Any, hyper: dict, data: Any) -> Callable:
    """`problem.precondition` at one point, as a map of flat vectors (the identity where there is none)."""
    if problem.precondition is None:
        return lambda v: v
    unravel = ravel_pytree(params)[1]
    apply = problem.precondition(params, hyper, data)
    return lambda v: ravel_pytree(apply(unravel(v)))[0]


def dual_norm(precondition: Callable, v) -> Any:
    """sqrt(<v, M^-1 v>): the length of a gradient in the metric of the preconditioner M.

    For M near the Hessian this is the Newton decrement, so that neither the units nor the scales of the features enter.
    """
    return jnp.sqrt(jnp.maximum(jnp.vdot(v, precondition(v)), 0.0))
