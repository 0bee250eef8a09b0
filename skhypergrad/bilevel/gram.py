"""The matrix of ridge regression, X^T X + diag(penalty): its inverse and its leverages, by way of the smaller side.

In the metric of the penalty, B = X diag(penalty)^(-1/2), either side is the identity and something positive: I + B^T B for
many rows, and by Woodbury's identity I + B B^T for many features. So its Cholesky factor exists whatever the penalties are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

# One task after the other, where nothing is differentiated through: a batch of LAPACK calls hands its work to the threads
# that run the program and waits for them, and two large ones at once wait for each other for ever (JAX 0.10.2).
cholesky_by_task = jax.custom_batching.sequential_vmap(jnp.linalg.cholesky)
_solve_by_task = jax.custom_batching.sequential_vmap(lambda factor, v: cho_solve((factor, True), v))


class Gram(NamedTuple):
    """X^T X + diag(penalty), factorised.

    Attributes
    ----------
    rows : (n_samples, n_features) B, the rows in the metric of the penalty; None where only products were given
    scale : (n_features,) sqrt(penalty)
    factor : Cholesky factor of I + B^T B, or of I + B B^T where there are fewer rows than features
    """

    rows: Any
    scale: Any
    factor: Any

    @classmethod
    def of(cls, X, penalty, cholesky: Callable = jnp.linalg.cholesky) -> Gram:
        """Factorise; `X` (n_samples, n_features), `penalty` (n_features,) positive."""
        scale = jnp.sqrt(penalty)
        rows = X / scale
        few = rows if X.shape[0] < X.shape[1] else rows.T
        return cls(rows, scale, cholesky(jnp.eye(len(few)) + few @ few.T))

    @classmethod
    def of_products(cls, products, penalty, cholesky: Callable = jnp.linalg.cholesky) -> Gram:
        """Factorise, to `solve` alone; `products` (n_features, n_features) is X^T X."""
        scale = jnp.sqrt(penalty)
        return cls(None, scale, cholesky(jnp.eye(len(scale)) + products / jnp.outer(scale, scale)))

    @property
    def is_wide(self) -> bool:
        return self.rows is not None and self.rows.shape[0] < self.rows.shape[1]

    def solve(self, v):
        """(X^T X + diag(penalty))^-1 v, for v (n_features,); not to be differentiated."""
        v = v / self.scale
        if self.is_wide:
            return (v - self.rows.T @ _solve_by_task(self.factor, self.rows @ v)) / self.scale
        return _solve_by_task(self.factor, v) / self.scale

    def remainder(self):
        """1 - h, with h the diagonal of X (X^T X + diag(penalty))^-1 X^T: how little a fit follows each row."""
        if self.is_wide:
            # the diagonal of (I + B B^T)^-1, where the difference would cancel
            inverse = solve_triangular(self.factor, jnp.eye(len(self.factor)), lower=True)
            return jnp.sum(inverse**2, axis=0)
        return 1 - jnp.sum(solve_triangular(self.factor, self.rows.T, lower=True) ** 2, axis=0)

    def residual(self, y):
        """y - X w for the fit w to y (n_samples, n_outputs)."""
        if self.is_wide:
            return cho_solve((self.factor, True), y)
        return y - self.rows @ cho_solve((self.factor, True), self.rows.T @ y)
