"""Outer objectives on held-out rows: what the search descends, as losses (smaller is better).

Each is `criterion(raw, y, weight, variance) -> scalar`, for one task:

    raw, y     (n_samples, n_outputs)   raw predictions and targets (one-hot rows for several classes)
    weight     (n_samples,)             0 leaves a row out; a fold whose weights are all 0 is refused at the face
    variance   (n_outputs,)             weighted variance of the held-out targets, a constant of the task

Every one is a weighted mean, as in `sklearn.metrics`, so that a fold's value is that fold's score up to its sign.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from skhypergrad.bilevel import losses


def _mean(rows, weight):
    total = losses.weighted(weight, rows) if rows.ndim == 1 else weight @ rows
    return total / jnp.sum(weight)


def squared_error(raw, y, weight, variance):
    """Mean squared error, uniformly averaged over the outputs; `sklearn.metrics.mean_squared_error`."""
    return jnp.mean(_mean((raw - y) ** 2, weight))


def root_squared_error(raw, y, weight, variance):
    """Root of the mean squared error of each output, averaged; `sklearn.metrics.root_mean_squared_error`.

    Its derivative does not exist where an output is fitted exactly; it is taken as 0 there.
    """
    error = _mean((raw - y) ** 2, weight)
    positive = error > 0
    return jnp.mean(jnp.where(positive, jnp.sqrt(jnp.where(positive, error, 1.0)), 0.0))


def r2(raw, y, weight, variance):
    """Minus the coefficient of determination, averaged over the outputs; `sklearn.metrics.r2_score`.

    An output that is constant on the held-out rows scores 0, as in scikit-learn unless it is fitted exactly.
    """
    varies = variance > 0
    ratio = _mean((raw - y) ** 2, weight) / jnp.where(varies, variance, 1.0)
    return jnp.mean(jnp.where(varies, ratio - 1.0, 0.0))


def log_loss(raw, y, weight, variance):
    """Mean negative log likelihood in nats, of two classes (one output) or several; `sklearn.metrics.log_loss`.

    Probabilities are clipped to [eps, 1 - eps], as there: a row that is wrong with certainty costs -log(eps) = 36.04.
    """
    loss = losses.logistic if raw.shape[-1] == 1 else losses.multinomial
    eps = jnp.finfo(raw.dtype).eps
    return _mean(jnp.clip(loss(raw, y), -jnp.log1p(-eps), -jnp.log(eps)), weight)


def brier(raw, y, weight, variance):
    """Mean squared error of the probabilities, summed over several classes; `sklearn.metrics.brier_score_loss`."""
    probability = jax.nn.sigmoid(raw) if raw.shape[-1] == 1 else jax.nn.softmax(raw, axis=-1)
    return _mean(jnp.sum((probability - y) ** 2, axis=-1), weight)
