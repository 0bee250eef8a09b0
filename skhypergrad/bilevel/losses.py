"""Inner losses: one function each, (raw, y) -> loss of every row; weights and sums belong to the model.

`raw` is the raw prediction (n_samples, n_outputs), `y` has the same shape.

>>> import numpy as np
>>> squared(np.array([[2.0]]), np.array([[1.0]]))
Array([0.5], dtype=float32)
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Of the series of artanh(s) / s in s**2, for s up to 1/3: the next one is 2e-17.
ARTANH = [1 / (2 * k + 1) for k in range(16)]
# A sum is the trace of a product of matrices with so many rows.
PARTS = 4


@jax.custom_jvp
def weighted(weight, loss):
    """The sum of losses (n_samples,) by weight (n_samples,)."""
    # into a sum XLA puts what is summed, and computes it number by number; not into a product of matrices
    missing = -len(loss) % PARTS
    if missing:
        weight, loss = jnp.pad(weight, (0, missing)), jnp.pad(loss, (0, missing))
    products = weight.reshape(PARTS, -1) @ loss.reshape(PARTS, -1).T
    return jnp.vdot(np.eye(PARTS, dtype=products.dtype), products)


@weighted.defjvp
def _weighted_jvp(primals, tangents):
    (weight, loss), (d_weight, d_loss) = primals, tangents
    return weighted(weight, loss), jnp.vdot(d_weight, loss) + jnp.vdot(weight, d_loss)


def squared(raw, y):
    """Half the squared error, summed over the outputs: (raw - y)**2 / 2, in squared units of the target."""
    return jnp.sum((raw - y) ** 2, axis=-1) / 2


def logistic(raw, y):
    """Binary log loss in nats, log(1 + exp(raw)) - y raw, with raw (n_samples, 1) the log odds and y in {0, 1}."""
    # the linear parts cancel exactly where the label is the likely one, and leave the digits of a small loss
    return jnp.sum(_softplus_rest(raw) + (jnp.where(raw >= 0, raw, 0.0) - y * raw), axis=-1)


@jax.custom_jvp
def _softplus_rest(x):
    """log(1 + exp(x)) - max(x, 0) = 2 artanh(s) with s = e / (2 + e) and e = exp(-|x|).

    By its series, which processors compute for several numbers at once, as they do not `jnp.log1p`.
    """
    small = jnp.exp(-jnp.abs(x))
    s = small / (2.0 + small)
    return 2.0 * s * _series(s * s)


@jax.jit
def _series(square):
    return functools.reduce(lambda total, coefficient: total * square + coefficient, reversed(ARTANH))


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
