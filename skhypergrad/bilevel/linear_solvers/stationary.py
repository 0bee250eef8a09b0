"""Stationary iterations: the Neumann series, and the fixed point of a step of gradient descent.

    x <- x + eta M^-1 (b - A x),     after k steps from zero:  x = eta sum_{j<k} (I - eta M^-1 A)**j M^-1 b

Source: Richardson (1910); as hypergradients Lorraine et al. (2020) and Grazzi et al. (2020). They converge where eta is
below 2 / lambda_max, by the factor max |1 - eta lambda| a step: slowly for ill-conditioned matrices, where
`ConjugateGradient` takes about the square root of their steps. Cost of a step: one product. At an inner optimum, k steps from
zero give the hypergradient of the last k steps of gradient descent with the rate eta (Shaban et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.linear_solvers.solution import LinearSolution, verified
from skhypergrad.bilevel.problem import Operator, dual_norm

# The power iteration approaches lambda_max from below; the step is shortened by this.
MARGIN = 1.1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Neumann:
    """The Neumann series, scaled by an estimate of the largest eigenvalue.

    Parameters
    ----------
    max_steps : int, default=500
        Terms at most; the true residual says whether they sufficed.
    power_steps : int, default=20
        Products spent on the largest eigenvalue of the preconditioned matrix.
    """

    max_steps: int = 500
    power_steps: int = 20

    def solve(self, operator, b, x0, tol, rough=None) -> LinearSolution:
        """Iterate from `x0`, None for zero, until the residual, in the preconditioner's metric, is `tol` times that of b."""
        # every direction takes part: a right-hand side may be blind to the steepest
        start = jax.random.normal(jax.random.key(0), b.shape, b.dtype)

        def power(_, v):
            v = operator.precondition(operator.product(v))
            return v / jnp.sqrt(jnp.vdot(v, v))

        v = jax.lax.fori_loop(0, self.power_steps, power, start)
        largest = jnp.linalg.norm(operator.precondition(operator.product(v)))
        return _iterate(operator, b, x0, tol, 1 / (MARGIN * largest), self.max_steps, self.power_steps + 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FixedPoint:
    """The adjoint of gradient descent's fixed point, with its learning rate and without a preconditioner.

    Parameters
    ----------
    learning_rate : float
        Below 2 / lambda_max; a larger one diverges, and the residual says so.
    max_steps : int, default=500
        Steps at most.
    """

    learning_rate: Any
    max_steps: int = 500

    def solve(self, operator, b, x0, tol, rough=None) -> LinearSolution:
        """Iterate from `x0`, None for zero, until the residual is `tol` times that of b."""
        plain = Operator(operator.product, lambda v: v)
        found = _iterate(plain, b, x0, tol, jnp.asarray(self.learning_rate, b.dtype), self.max_steps, 0)
        return verified(operator, b, found.x, found.steps)


def _iterate(operator, b, x0, tol, eta, max_steps, spent) -> LinearSolution:
    size = dual_norm(operator.precondition, b)
    x0 = jnp.zeros_like(b) if x0 is None else jnp.where(size > 0, x0, 0.0)

    def unfinished(state):
        _, r, steps = state
        norm = dual_norm(operator.precondition, r)
        # a residual far above that of zero is a divergence
        return (norm > tol * size) & (norm < 1e6 * size) & (steps < max_steps)

    def advance(state):
        x, r, steps = state
        x = x + eta * operator.precondition(r)
        return x, b - operator.product(x), steps + 1

    x, r, steps = jax.lax.while_loop(unfinished, advance, (x0, b - operator.product(x0), jnp.asarray(0)))
    return verified(operator, b, x, steps + spent, left=r)
