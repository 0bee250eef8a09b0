"""L-BFGS with backtracking, for inner problems whose Hessian products cost too much.

    d = -(inverse Hessian built from the last `memory` pairs s = w+ - w, y = g+ - g, started from the preconditioner) g

Source: Nocedal (1980); Nocedal & Wright, Numerical Optimization, algorithms 7.4 and 7.5. Converges linearly. Cost of a
step: one value and gradient and 4 `memory` vector operations. Pairs without positive curvature are left out.

The line search is data-dependent, so a step cannot be unrolled: use it under `Implicit`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from skhypergrad.bilevel.problem import flat_preconditioner
from skhypergrad.bilevel.solvers.line_search import Point, backtrack


class LBFGSState(NamedTuple):
    """params, the inner value and gradient there, and the pairs, newest first; rho = 1 / <s, y>, 0 where unused."""

    params: Any
    value: Any
    gradient: Any
    s: Any
    y: Any
    rho: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LBFGS:
    """Limited-memory quasi-Newton steps with backtracking (see the module).

    Parameters
    ----------
    memory : int, default=10
        Pairs kept; memory 2 * `memory` times `params`.
    """

    memory: int = field(default=10, metadata={"static": True})

    unrollable: ClassVar[bool] = False

    def init(self, problem, hyper, data, params) -> LBFGSState:
        value, gradient = problem.value_and_grad(params, hyper, data)
        w = ravel_pytree(params)[0]
        pairs = jnp.zeros((self.memory, w.size), w.dtype)
        return LBFGSState(
            params=params, value=value, gradient=gradient, s=pairs, y=pairs, rho=jnp.zeros(self.memory, w.dtype)
        )

    def step(self, problem, hyper, data, state) -> LBFGSState:
        w, unravel = ravel_pytree(state.params)

        def value_and_grad(w):
            value, gradient = problem.value_and_grad(unravel(w), hyper, data)
            return value, ravel_pytree(gradient)[0]

        gradient = ravel_pytree(state.gradient)[0]
        precondition = flat_preconditioner(problem, state.params, hyper, data)
        direction = -_two_loops(state, precondition, gradient)
        point = backtrack(value_and_grad, Point(w, state.value, gradient), direction)

        s, y = point.w - w, point.gradient - gradient
        curvature = jnp.vdot(s, y)
        useful = curvature > jnp.finfo(w.dtype).eps * jnp.vdot(y, y)
        rho = jnp.where(useful, 1 / jnp.where(useful, curvature, 1.0), 0.0)
        return LBFGSState(
            params=unravel(point.w),
            value=point.value,
            gradient=unravel(point.gradient),
            s=jnp.roll(state.s, 1, axis=0).at[0].set(s),
            y=jnp.roll(state.y, 1, axis=0).at[0].set(y),
            rho=jnp.roll(state.rho, 1).at[0].set(rho),
        )

    def params(self, state):
        return state.params


def _two_loops(state: LBFGSState, precondition, gradient):
    """The inverse Hessian of the pairs times `gradient`."""

    def down(q, pair):
        s, y, rho = pair
        alpha = rho * jnp.vdot(s, q)
        return q - alpha * y, alpha

    def up(r, pair):
        s, y, rho, alpha = pair
        return r + (alpha - rho * jnp.vdot(y, r)) * s, None

    pairs = (state.s, state.y, state.rho)
    q, alphas = jax.lax.scan(down, gradient, pairs)
    # gamma scales the preconditioner to the curvature of the newest pair (Nocedal & Wright, equation 7.20)
    y = state.y[0]
    metric = jnp.vdot(y, precondition(y))
    used = (state.rho[0] > 0) & (metric > 0)
    gamma = jnp.where(used, 1 / jnp.where(used, state.rho[0] * metric, 1.0), 1.0)
    return jax.lax.scan(up, gamma * precondition(q), (*pairs, alphas), reverse=True)[0]
