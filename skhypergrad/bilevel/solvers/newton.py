"""Newton's method with an inexact solve, for smooth convex inner problems.

    H(w) d = -grad inner(w)   to the relative residual  eta = min(1/10, sqrt(|grad inner(w)| / s))
    w <- w + t d              t from backtracking

Norms are those of the preconditioner, and s is the larger of |grad inner(w0)| and sqrt(2 |inner(w0)|): from a warm start,
where the gradient is small already, the first step is an accurate one, too. Source: Dembo, Eisenstat & Steihaug (1982);
Nocedal & Wright, Numerical Optimization, algorithm 7.1. Converges with order 3/2. Cost of a step: one linear solve and one
value and gradient.

The line search is data-dependent, so a step cannot be unrolled: use it under `Implicit`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from skhypergrad.bilevel.linear_solvers import ConjugateGradient
from skhypergrad.bilevel.problem import dual_norm, flat_preconditioner, hessian, rough_hessian
from skhypergrad.bilevel.solvers.line_search import Point, backtrack

# What a direction in single precision is asked for at most; and rounding of a gradient, in units of its scale's.
ROUGH = 1e-4
ROUNDING = 100


class NewtonState(NamedTuple):
    """params, the inner value and gradient there, what gradients are compared with (for eta), and products used so far."""

    params: Any
    value: Any
    gradient: Any
    scale: Any
    products: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Newton:
    """Inexact Newton steps with backtracking (see the module).

    Parameters
    ----------
    linear_solver : linear solver, default=ConjugateGradient()
        `Direct()` for few unknowns.
    """

    linear_solver: Any = field(default_factory=ConjugateGradient)

    unrollable: ClassVar[bool] = False

    def init(self, problem, hyper, data, params) -> NewtonState:
        value, gradient = problem.value_and_grad(params, hyper, data)
        scale = dual_norm(flat_preconditioner(problem, params, hyper, data), ravel_pytree(gradient)[0])
        scale = jnp.maximum(scale, jnp.sqrt(2 * jnp.abs(value)))
        return NewtonState(params=params, value=value, gradient=gradient, scale=scale, products=jnp.asarray(0))

    def step(self, problem, hyper, data, state) -> NewtonState:
        w, unravel = ravel_pytree(state.params)

        def value_and_grad(w):
            value, gradient = problem.value_and_grad(unravel(w), hyper, data)
            return value, ravel_pytree(gradient)[0]

        gradient = ravel_pytree(state.gradient)[0]
        precondition = flat_preconditioner(problem, state.params, hyper, data)
        ratio = dual_norm(precondition, gradient) / jnp.where(state.scale > 0, state.scale, 1.0)
        # of the gradient, a few digits less than those of its scale are known: the rest would be magnified
        known = ROUNDING * jnp.finfo(ratio.dtype).eps / jnp.where(ratio > 0, ratio, 1.0)
        eta = jnp.minimum(0.1, jnp.maximum(jnp.sqrt(ratio), known))
        rough = rough_hessian(problem, state.params, hyper, data)
        if rough is None:
            operator = hessian(problem, state.params, hyper, data)
            newton = self.linear_solver.solve(operator, -gradient, None, eta)
        else:
            # a direction needs few digits: those of the weights are the gradient's, which is exact
            size = jnp.linalg.norm(gradient)
            right = (-gradient / jnp.where(size > 0, size, 1.0)).astype(jnp.float32)
            newton = self.linear_solver.solve(rough, right, None, jnp.maximum(eta, ROUGH).astype(jnp.float32))
            newton = newton._replace(x=newton.x.astype(gradient.dtype) * size)
        point = backtrack(value_and_grad, Point(w, state.value, gradient), newton.x)
        return NewtonState(
            params=unravel(point.w),
            value=point.value,
            gradient=unravel(point.gradient),
            scale=state.scale,
            products=state.products + newton.steps,
        )

    def params(self, state):
        return state.params
