"""Penalties of the inner problem: one function each, (coef, strength) -> scalar."""

from __future__ import annotations

import jax.numpy as jnp


def ridge(coef, strength):
    """Half the squared norm, sum(strength * coef**2) / 2.

    Parameters
    ----------
    coef : (n_features, n_outputs)
        Coefficients without the intercept, which is never penalised.
    strength : scalar, (n_outputs,) or (n_features, 1)
        Non-negative, broadcast against `coef`: one for all, one per output or one per feature.
    """
    return jnp.sum(strength * coef**2) / 2
