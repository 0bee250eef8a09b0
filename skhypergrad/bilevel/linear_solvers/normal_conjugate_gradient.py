"""Conjugate gradients on the normal equations, for a matrix that is symmetric but perhaps not definite.

    A M^-1 A x = A M^-1 b,     M the preconditioner

Source: Hestenes & Stiefel (1952), section 10; Saad, Iterative Methods for Sparse Linear Systems, algorithm 8.4 (CGNR). Cost
of a step: two products. Every step lowers the residual, at the rate of conjugate gradients with the *square* of the condition
number: where the matrix is definite, `ConjugateGradient` is far better.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.linear_solvers.solution import LinearSolution, verified
from skhypergrad.bilevel.problem import dual_norm


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NormalConjugateGradient:
    """Conjugate gradients on the normal equations (see the module).

    Parameters
    ----------
    max_steps : int, default=500
        Steps at most; the true residual says whether they sufficed.
    """

    max_steps: int = 500

    def solve(self, operator, b, x0, tol, rough=None) -> LinearSolution:
        """Iterate from `x0`, None for zero, until the residual, in the preconditioner's metric, is `tol` times that of b."""
        product, precondition = operator
        target = tol * dual_norm(precondition, b)
        x0 = jnp.zeros_like(b) if x0 is None else jnp.where(target > 0, x0, 0.0)
        r = b - product(x0)
        s = product(precondition(r))
        p = precondition(s)

        def unfinished(state):
            _, r, _, gamma, steps = state
            return (dual_norm(precondition, r) > target) & (gamma > 0) & (steps < self.max_steps)

        def advance(state):
            x, r, p, gamma, steps = state
            q = product(p)
            length = jnp.vdot(q, precondition(q))
            step = jnp.where(length > 0, gamma / jnp.where(length > 0, length, 1.0), 0.0)
            x, r = x + step * p, r - step * q
            s = product(precondition(r))
            z = precondition(s)
            new = jnp.vdot(s, z)
            return x, r, z + new / gamma * p, jnp.where(length > 0, new, 0.0), steps + 1

        start = (x0, r, p, jnp.vdot(s, p), jnp.asarray(0))
        x, _, _, _, steps = jax.lax.while_loop(unfinished, advance, start)
        return verified(operator, b, x, 2 * steps)
