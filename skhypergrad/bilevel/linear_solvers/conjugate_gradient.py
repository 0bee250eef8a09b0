"""Preconditioned conjugate gradients, for many unknowns.

Source: Hestenes & Stiefel (1952); Saad, Iterative Methods for Sparse Linear Systems, algorithm 9.1. Cost of a step:
one product. Error in the A-norm after k steps: 2 ((sqrt(c) - 1) / (sqrt(c) + 1))**k with c the condition number of the
preconditioned matrix. Unlike `jax.scipy.sparse.linalg.cg` it returns the residual, recomputed, and stops where the
curvature along its direction is not positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.linear_solvers.solution import LinearSolution, verified


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ConjugateGradient:
    """Conjugate gradients from a warm start.

    Parameters
    ----------
    max_steps : int, default=500
        Products at most; the true residual says whether they sufficed.
    """

    max_steps: int = 500

    def solve(self, matvec, b, x0, tol, precondition) -> LinearSolution:
        """Iterate from `x0` until the residual, in the preconditioner's metric, is `tol` times that of b."""
        size = jnp.vdot(b, precondition(b))
        target = tol**2 * size
        x0 = jnp.where(size > 0, x0, 0.0)
        r = b - matvec(x0)
        z = precondition(r)
        start = (x0, r, z, jnp.vdot(r, z), jnp.asarray(0))

        def unfinished(state):
            _, _, _, rz, steps = state
            return (rz > target) & (steps < self.max_steps)

        def advance(state):
            x, r, p, rz, steps = state
            product = matvec(p)
            curvature = jnp.vdot(p, product)
            step = jnp.where(curvature > 0, rz / jnp.where(curvature > 0, curvature, 1.0), 0.0)
            x, r = x + step * p, r - step * product
            z = precondition(r)
            rz_new = jnp.vdot(r, z)
            # without curvature there is no step: leave, and let the recomputed residual tell
            steps = jnp.where(curvature > 0, steps + 1, self.max_steps)
            return x, r, z + rz_new / rz * p, rz_new, steps

        x, _, _, _, steps = jax.lax.while_loop(unfinished, advance, start)
        return verified(matvec, b, x, precondition, steps)
