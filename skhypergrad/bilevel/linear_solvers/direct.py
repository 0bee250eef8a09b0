"""A dense Cholesky factorisation, for few unknowns.

    A = S L L^T S,   S = sqrt(diag A);     x <- x + A^-1 (b - A x), twice

The matrix is formed by n products; scaling its diagonal to one makes the factorisation indifferent to units, and one
refinement with the true product mends what forming it lost. A matrix that is not positive definite gives NaN, which
the recomputed residual reports. Cost: n products and n**3 / 3; error: about cond(S^-1 A S^-1) * eps.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from skhypergrad.bilevel.linear_solvers.solution import LinearSolution, verified


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Direct:
    """Cholesky factorisation of the matrix, formed column by column (see the module)."""

    def solve(self, operator, b, x0, tol, rough=None) -> LinearSolution:
        """Solve to rounding; `x0`, `tol` and `rough` are of no use here."""
        matrix = jax.vmap(operator.product)(jnp.eye(b.size, dtype=b.dtype))
        diagonal = jnp.diagonal(matrix)
        scale = jnp.where(diagonal > 0, 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0)), 1.0)
        symmetric = scale[:, None] * (matrix + matrix.T) / 2 * scale
        # an unknown that nothing depends on (padding) has a row of zeros
        symmetric = symmetric + jnp.diag(jnp.where(diagonal == 0, 1.0, 0.0))
        factor = jnp.linalg.cholesky(symmetric)

        def inverse(r):
            return scale * cho_solve((factor, True), (scale * r)[:, None])[:, 0]

        x = inverse(b)
        x = x + inverse(b - operator.product(x))
        return verified(operator, b, x, jnp.asarray(b.size + 2))
