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
    return jnp.sum(jax.nn.softplus(raw) - y * raw, axis=-1)


def multinomial(raw, y):
    """Log loss of a softmax in nats, logsumexp(raw) - <y, raw>, with y the one-hot rows (n_samples, n_classes).

    Unchanged by a shift of all classes alike, so its Hessian is singular along that direction; a penalty on the
    coefficients settles theirs, and the intercepts are reported with sum zero.
    """
    return jax.nn.logsumexp(raw, axis=-1) - jnp.sum(y * raw, axis=-1)
