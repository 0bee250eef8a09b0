"""Preconditioned conjugate gradients, for many unknowns.

    repeat    x <- x + d,    A d = r    by conjugate gradients,    r <- b - A x

Source: Hestenes & Stiefel (1952); Saad, Iterative Methods for Sparse Linear Systems, algorithm 9.1; the repetition is
iterative refinement (Wilkinson 1963): with a rough A for d, in float32, all but a few products cost a fraction, and
rounding in them does not limit x. Cost of a step: one product. Error in the A-norm after k steps:
2 ((sqrt(c) - 1) / (sqrt(c) + 1))**k with c the condition number of the preconditioned matrix. Unlike
`jax.scipy.sparse.linalg.cg` it returns the residual, recomputed, and stops where the curvature along its direction is
not positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.linear_solvers.solution import LinearSolution, verified
from skhypergrad.bilevel.problem import dual_norm

# What a round of the rough product is asked for at most, and what it must at least achieve to be asked again.
ROUGH = 1e-4
PROGRESS = 0.1
ROUNDS = 10


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

    def solve(self, operator, b, x0, tol, rough=None) -> LinearSolution:
        """Iterate from `x0`, None for zero, until the residual, in the preconditioner's metric, is `tol` times that of b."""
        size = dual_norm(operator.precondition, b)
        if x0 is None and rough is None:
            return verified(operator, b, *_iterate(operator, b, tol * size, self.max_steps))
        x0 = jnp.zeros_like(b) if x0 is None else jnp.where(size > 0, x0, 0.0)
        return self._refine(operator, rough, b, x0, tol * size)

    def _refine(self, operator, rough, b, x, target) -> LinearSolution:
        """Rounds with the rough operator as long as they help, then with the exact one.

        A round begins with the residual, which is what the last one ends with: the program has one product for both.
        """

        def unfinished(state):
            return ~state[-1]

        def round_(state):
            x, _, norm, steps, exact, rounds, _ = state
            r = b - operator.product(x)
            new = dual_norm(operator.precondition, r)
            goal = 0.9 * target / new
            # written so that NaN ends the rounds
            stuck = ~(new <= jnp.maximum(PROGRESS, 2 * jnp.minimum(0.9 * target / norm, 1.0)) * norm)
            over = ~(new > target) | (stuck & exact) | (steps >= self.max_steps) | (rounds >= ROUNDS)
            exact = exact | stuck
            left = jnp.where(over, 0, self.max_steps - steps)
            if rough is not None:
                low, used = _iterate(rough, (r / new).astype(jnp.float32), jnp.maximum(goal, ROUGH), ~exact * left)
                x = x + jnp.where(jnp.all(jnp.isfinite(low)), low, 0.0).astype(r.dtype) * new
                steps = steps + used
            high, used = _iterate(operator, r, 0.9 * target, exact * left)
            return x + high, r, new, steps + used, exact, rounds + 1, over

        start = (x, b, jnp.full_like(target, jnp.inf), jnp.asarray(0), jnp.asarray(rough is None), jnp.asarray(0))
        x, r, _, steps, *_ = jax.lax.while_loop(unfinished, round_, (*start, jnp.asarray(False)))
        return verified(operator, b, x, steps, left=r)


def _iterate(operator, b, target, max_steps):
    """The classical recurrence from zero to a residual of norm `target`: (x, steps)."""
    z = operator.precondition(b)

    def unfinished(state):
        _, _, _, rz, steps = state
        return (rz > (target**2).astype(rz.dtype)) & (steps < max_steps)

    def advance(state):
        x, r, p, rz, steps = state
        product = operator.product(p)
        curvature = jnp.vdot(p, product)
        step = jnp.where(curvature > 0, rz / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        x, r = x + step * p, r - step * product
        z = operator.precondition(r)
        rz_new = jnp.vdot(r, z)
        # without curvature there is no step: leave, and let the recomputed residual tell
        return x, r, z + rz_new / rz * p, jnp.where(curvature > 0, rz_new, 0.0), steps + 1

    x, _, _, _, steps = jax.lax.while_loop(
        unfinished, advance, (jnp.zeros_like(b), b, z, jnp.vdot(b, z), jnp.asarray(0))
    )
    return x, steps
