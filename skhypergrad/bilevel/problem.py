"""A bilevel problem: what is fitted, and what the fit is judged by.

    minimise  outer(params*, hyper, data)  over hyper,   params* = argmin over params of  inner(params, hyper, data)

>>> problem = Problem(
...     inner=lambda w, hyper, data: (w - data) ** 2 / 2 + hyper["alpha"] * w**2 / 2,
...     outer=lambda w, hyper, data: (w - 1.0) ** 2,
...     init=lambda hyper, data: 0.0 * data,
... )
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree


@dataclass(frozen=True)
class Problem:
    """One task's inner and outer objective, as pure JAX functions.

    Parameters
    ----------
    inner : callable, (params, hyper, data) -> scalar
        Training objective; smooth and, for `Implicit`, with a unique minimiser.
    outer : callable, (params, hyper, data) -> scalar, or dict of str to such a callable
        Validation objective; may depend on `hyper` explicitly. A dict gives each hyperparameter, by name, an objective of
        its own, for instance a learning rate the training loss; the first one is the value that is reported and by which
        the best point is chosen. For `FirstOrder`.
    init : callable, (hyper, data) -> params
        Starting weights; may depend on `hyper` (a learned initialisation).
    batch : callable, (data, step) -> data, default=None
        The mini-batch of inner step `step`, for solvers that are unrolled; None for full batches.
    precondition : callable, (params, hyper, data) -> pytree like params, or a callable, v -> pytree like v; default=None
        A symmetric positive definite approximation of the Hessian of `inner`: its diagonal, or, as a map of pytrees like
        params that keeps the precision of v, its inverse. It decides speed and the norm in which residuals are measured,
        never the solution. None for the identity.
    lower : callable, data -> data in float32 or None, default=None
        The same data for products with the Hessian that are checked by exact gradients and residuals; None where the data
        are too few for that to be faster. It too decides speed, never the solution.

    Notes
    -----
    A problem is compared by identity of its functions and is a static argument of compiled code: build it once (at
    module level, or behind a cache), not in a loop.
    """

    inner: Callable
    outer: Any
    init: Callable
    batch: Callable | None = None
    precondition: Callable | None = None
    lower: Callable | None = None

    def __post_init__(self):
        if isinstance(self.outer, Mapping):
            # pairs can be hashed
            object.__setattr__(self, "outer", tuple(self.outer.items()))

    @property
    def has_several_objectives(self) -> bool:
        return isinstance(self.outer, tuple)

    @functools.cached_property
    def value_and_grad(self) -> Callable:
        """(params, hyper, data) -> value and gradient of `inner`; traced once for all the places of a program that ask."""
        return jax.jit(jax.value_and_grad(self.inner))

    @functools.cached_property
    def gradient(self) -> Callable:
        """(params, hyper, data) -> gradient of `inner`."""
        return jax.jit(jax.grad(self.inner))


class Operator(NamedTuple):
    """A symmetric positive definite matrix: its product with a flat vector, and that of an approximate inverse."""

    product: Callable
    precondition: Callable


def hessian(problem: Problem, params: Any, hyper: dict, data: Any) -> Operator:
    """The Hessian of `inner`."""
    w, unravel = ravel_pytree(params)

    def gradient_of(w):
        return ravel_pytree(problem.gradient(unravel(w), hyper, data))[0]

    return Operator(jax.linearize(gradient_of, w)[1], flat_preconditioner(problem, params, hyper, data))


def rough_hessian(problem: Problem, params: Any, hyper: dict, data: Any) -> Operator | None:
    """The Hessian of `inner` in float32, to be trusted no further than its residuals; None where there is none."""
    low = None if problem.lower is None else problem.lower(data)
    if low is None:
        return None
    product, _ = hessian(replace(problem, precondition=None), lowered(params), lowered(hyper), low)
    return Operator(product, flat_preconditioner(problem, params, hyper, data))


def lowered(tree: Any) -> Any:
    """Every float64 array of a pytree in float32."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, tree)


def preconditioner(problem: Problem, params: Any, hyper: dict, data: Any) -> Callable:
    """`problem.precondition` at one point, as a map of pytrees (the identity where there is none)."""
    if problem.precondition is None:
        return lambda v: v
    found = problem.precondition(params, hyper, data)
    return found if callable(found) else lambda v: jax.tree.map(_over, v, found)


def flat_preconditioner(problem: Problem, params: Any, hyper: dict, data: Any) -> Callable:
    """The same as a map of flat vectors."""
    if problem.precondition is None:
        return lambda v: v
    found = problem.precondition(params, hyper, data)
    if not callable(found):
        diagonal = ravel_pytree(found)[0]
        return lambda v: _over(v, diagonal)

    def flat(v):
        like = jax.tree.map(lambda x: x.astype(v.dtype), params)
        return ravel_pytree(found(ravel_pytree(like)[1](v)))[0]

    return flat


def _over(v, diagonal):
    return v / diagonal.astype(v.dtype)


def dual_norm(precondition: Callable, v) -> Any:
    """sqrt(<v, M^-1 v>): the length of a gradient in the metric of the preconditioner M.

    For M near the Hessian this is the Newton decrement, so that neither the units nor the scales of the features enter.
    """
    return jnp.sqrt(jnp.maximum(jnp.vdot(v, precondition(v)), 0.0))
