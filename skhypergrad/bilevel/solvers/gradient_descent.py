"""Gradient descent, on full or mini-batches.

    w <- w - lr_t grad inner(w)

Source: Cauchy (1847). Cost of a step: one gradient. Contracts by max |1 - lr h| over the Hessian's eigenvalues h.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.solvers.rates import at, batch_gradient


class GradientDescentState(NamedTuple):
    """params, and the number of steps taken."""

    params: Any
    step: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GradientDescent:
    """Steps against the gradient.

    Parameters
    ----------
    learning_rate : scalar, (n_steps,), or a pytree like params of these
        May be a hyperparameter: `Reverse(lambda hyper: GradientDescent(hyper["learning_rate"]), steps)`.
    preconditioned : bool, default=False
        Whether gradients are multiplied by the problem's approximate inverse Hessian at the starting weights.
    """

    learning_rate: Any
    preconditioned: bool = field(default=False, metadata={"static": True})

    unrollable: ClassVar[bool] = True

    def init(self, problem, hyper, data, params) -> GradientDescentState:
        return GradientDescentState(params, jnp.asarray(0))

    def step(self, problem, hyper, data, state) -> GradientDescentState:
        w, t = state
        gradient = batch_gradient(problem, hyper, data, w, t, self.preconditioned)
        return GradientDescentState(
            jax.tree.map(lambda w, r, g: w - r * g, w, at(self.learning_rate, t, w), gradient), t + 1
        )

    def params(self, state):
        return state.params
