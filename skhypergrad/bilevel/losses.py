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
    return jnp.sum(_softplus(raw) - y * raw, axis=-1)


@jax.custom_jvp
def _softplus(x):
    # what `jax.nn.softplus` does for infinities takes longer than the rest, to compute and to compile
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@jax.custom_jvp
def _sigmoid(x):
    small = jnp.exp(-jnp.abs(x))
    return jnp.where(x >= 0, 1.0, small) / (1.0 + small)


@_softplus.defjvp
def _softplus_jvp(primals, tangents):
    return _softplus(*primals), _sigmoid(*primals) * tangents[0]


@_sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    # p (1 - p), without the difference from 1
    small = jnp.exp(-jnp.abs(primals[0]))
    return _sigmoid(*primals), small / (1.0 + small) ** 2 * tangents[0]


def multinomial(raw, y):
    """Log loss of a softmax in nats, logsumexp(raw) - <y, raw>, with y the one-hot rows (n_samples, n_classes).

    Unchanged by a shift of all classes alike, so its Hessian is singular along that direction; a penalty on the
    coefficients settles theirs, and the intercepts are reported with sum zero.
    """
    return jax.nn.logsumexp(raw, axis=-1) - jnp.sum(y * raw, axis=-1)
