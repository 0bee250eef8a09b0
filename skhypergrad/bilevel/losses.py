"""Inner losses: one function each, (raw, y) -> loss of every row; weights and sums belong to the model.

`raw` is the raw prediction (n_samples, n_outputs), `y` has the same shape.

>>> import numpy as np
>>> squared(np.array([[2.0]]), np.array([[1.0]]))
Array([0.5], dtype=float32)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def squared(raw, y):
    """Half the squared error, summed over the outputs: (raw - y)**2 / 2, in squared units of the target."""
    return jnp.sum((raw - y) ** 2, axis=-1) / 2


def logistic(raw, y):
    """Binary log loss in nats, log(1 + exp(raw)) - y raw, with raw (n_samples, 1) the log odds and y in {0, 1}."""
    # the linear parts cancel exactly where the label is the likely one, and leave the digits of a small loss
    return jnp.sum(_softplus_rest(raw) + (jnp.where(raw >= 0, raw, 0.0) - y * raw), axis=-1)


@jax.custom_jvp
def _softplus_rest(x):
    """log(1 + exp(x)) - max(x, 0); `jax.nn.softplus` takes longer, for the sake of infinities."""
    return jnp.log1p(jnp.exp(-jnp.abs(x)))


@jax.custom_jvp
def _slope_rest(x):
    """1 / (1 + exp(-x)) - (x >= 0)."""
    small = jnp.exp(-jnp.abs(x))
    return jnp.where(x >= 0, -small, small) / (1.0 + small)


@_softplus_rest.defjvp
def _softplus_rest_jvp(primals, tangents):
    return _softplus_rest(*primals), _slope_rest(*primals) * tangents[0]


@_slope_rest.defjvp
def _slope_rest_jvp(primals, tangents):
    return _slope_rest(*primals), _logistic_curvature(*primals) * tangents[0]


def _logistic_curvature(x):
    small = jnp.exp(-jnp.abs(x))
    return small / (1.0 + small) ** 2


def multinomial(raw, y):
    """Log loss of a softmax in nats, logsumexp(raw) - <y, raw>, with y the one-hot rows (n_samples, n_classes).

    Unchanged by a shift of all classes alike, so its Hessian is singular along that direction; a penalty on the
    coefficients settles theirs, and the intercepts are reported with sum zero.
    """
    return _multinomial(raw, y)


@jax.custom_jvp
def _multinomial(raw, y):
    largest = jnp.max(raw, axis=-1)
    # where the label is the likely one, the large numbers cancel exactly
    return largest - jnp.sum(y * raw, axis=-1) + jnp.log(jnp.sum(jnp.exp(raw - largest[..., None]), axis=-1))


@_multinomial.defjvp
def _multinomial_jvp(primals, tangents):
    (raw, y), (d_raw, d_y) = primals, tangents
    return _multinomial(raw, y), jnp.sum((_softmax(raw) - y) * d_raw - d_y * raw, axis=-1)


@jax.custom_jvp
def _softmax(raw):
    likely = jnp.exp(raw - jnp.max(raw, axis=-1, keepdims=True))
    return likely / jnp.sum(likely, axis=-1, keepdims=True)


@_softmax.defjvp
def _softmax_jvp(primals, tangents):
    p = _softmax(*primals)
    return p, p * (tangents[0] - jnp.sum(p * tangents[0], axis=-1, keepdims=True))


def _softmax_curvature(raw):
    p = _softmax(raw)
    return p * (1.0 - p)


# Second derivative of every row's loss in each of its raw predictions, of raw; those of other losses are differentiated.
CURVATURES = {squared: jnp.ones_like, logistic: _logistic_curvature, multinomial: _softmax_curvature}
