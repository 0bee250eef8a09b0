"""Penalties of the inner problem: one function each, (coef, strength) -> scalar."""

from __future__ import annotations

import jax.numpy as jnp


def ridge(coef, strength, metric=None):
    """Half the squared norm, sum(strength * coef * (metric @ coef)) / 2.

    Parameters
    ----------
    coef : (n_features, n_outputs)
        Coefficients without the intercept, which is never penalised.
    strength : scalar, (n_outputs,) or (n_features, 1)
        Non-negative, broadcast against `coef`: one for all, one per output or one per feature.
    metric : (n_features, n_features), default=None
        Gram matrix of a basis that is not orthonormal; None for the identity.
    """
    return jnp.sum(strength * coef * (coef if metric is None else metric @ coef)) / 2
