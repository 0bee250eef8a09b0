"""Adam, with its epsilon inside the root.

    m <- b1 m + (1 - b1) g,     v <- b2 v + (1 - b2) g**2
    w <- w - lr mhat / sqrt(vhat + eps**2),     mhat = m / (1 - b1**t),  vhat = v / (1 - b2**t)

Source: Kingma & Ba (2015), who add eps to the root; there the derivative of sqrt(v) does not exist at v = 0, which is where a
column of zeros leaves it for ever. Inside, it does, and the step is the same to second order in eps. Both moments are a part
of the state, and are differentiated with it. Cost of a step: one gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.solvers.rates import at, batch_gradient


class AdamState(NamedTuple):
    """params, first and second moment like params, and the number of steps taken."""

    params: Any
    first: Any
    second: Any
    step: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Adam:
    """Adam (see the module).

    Parameters
    ----------
    learning_rate : scalar, (n_steps,), or a pytree like params of these, default=0.001
    b1, b2 : scalar, default=0.9 and 0.999
    eps : scalar, default=1e-8
        All of them may be hyperparameters, see `GradientDescent`.
    """

    learning_rate: Any = 1e-3
    b1: Any = 0.9
    b2: Any = 0.999
    eps: Any = 1e-8

    unrollable: ClassVar[bool] = True

    def init(self, problem, hyper, data, params) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(params, zeros, zeros, jnp.asarray(0))

    def step(self, problem, hyper, data, state) -> AdamState:
        w, m, v, t = state
        gradient = batch_gradient(problem, hyper, data, w, t)
        m = jax.tree.map(lambda m, g: self.b1 * m + (1 - self.b1) * g, m, gradient)
        v = jax.tree.map(lambda v, g: self.b2 * v + (1 - self.b2) * g**2, v, gradient)

        def moved(w, rate, m, v):
            mhat, vhat = m / (1 - self.b1 ** (t + 1)), v / (1 - self.b2 ** (t + 1))
            return w - rate * mhat / jnp.sqrt(vhat + self.eps**2)

        return AdamState(jax.tree.map(moved, w, at(self.learning_rate, t, w), m, v), m, v, t + 1)

    def params(self, state):
        return state.params
