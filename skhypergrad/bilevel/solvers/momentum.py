"""Gradient descent with momentum: the heavy ball, and Nesterov's.

    m <- mu m + g,     w <- w - lr m              heavy ball
    m <- mu m + g,     w <- w - lr (g + mu m)     Nesterov

Source: Polyak (1964); Nesterov (1983), in the form of Sutskever et al. (2013). The velocity m is a part of the state, and
is differentiated with it. Cost of a step: one gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.solvers.rates import at, batch_gradient


class MomentumState(NamedTuple):
    """params, velocity like params, and the number of steps taken."""

    params: Any
    velocity: Any
    step: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Momentum:
    """The heavy ball.

    Parameters
    ----------
    learning_rate, momentum : scalar, (n_steps,), or a pytree like params of these
        May be hyperparameters, see `GradientDescent`.
    preconditioned : bool, default=False
        As in `GradientDescent`.
    """

    learning_rate: Any
    momentum: Any = 0.9
    preconditioned: bool = field(default=False, metadata={"static": True})

    unrollable: ClassVar[bool] = True

    def init(self, problem, hyper, data, params) -> MomentumState:
        return MomentumState(params, jax.tree.map(jnp.zeros_like, params), jnp.asarray(0))

    def step(self, problem, hyper, data, state) -> MomentumState:
        w, m, t = state
        gradient = batch_gradient(problem, hyper, data, w, t, self.preconditioned)
        rate, mu = at(self.learning_rate, t, w), at(self.momentum, t, w)
        m = jax.tree.map(lambda m, mu, g: mu * m + g, m, mu, gradient)
        direction = self._direction(gradient, mu, m)
        return MomentumState(jax.tree.map(lambda w, r, d: w - r * d, w, rate, direction), m, t + 1)

    def _direction(self, gradient, mu, m):
        return m

    def params(self, state):
        return state.params


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Nesterov(Momentum):
    """Nesterov's momentum, with the parameters of `Momentum`."""

    def _direction(self, gradient, mu, m):
        return jax.tree.map(lambda g, mu, m: g + mu * m, gradient, mu, m)
