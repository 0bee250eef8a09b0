"""A multilayer perceptron and its training by mini-batches, in scikit-learn's conventions.

    inner = sum_i weight_i loss(raw_i, y_i) / sum_i weight_i + sum_l alpha_l |coef_l|**2 / (2 sum_i weight_i)

with the sums over one mini-batch. Rows are held once; a task has an order in which it sees them, weights, and rows that it
holds out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from skhypergrad.bilevel import losses
from skhypergrad.bilevel.problem import Problem
from skhypergrad.bilevel.solvers import Adam, Momentum, Nesterov

ACTIVATIONS = {
    "identity": lambda x: x,
    "logistic": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
}


class Layer(NamedTuple):
    """coef (n_inputs, n_outputs) and intercept (n_outputs,)."""

    coef: Any
    intercept: Any


class Lesson(NamedTuple):
    """The data of one task.

    Attributes
    ----------
    X, y : (n_samples, n_features), (n_samples, n_outputs)
    weight : (n_samples,) of the rows that are trained on
    order : (n_steps, batch_size) int32
        Rows of every mini-batch, `n_samples` where a batch is not full; it begins anew after its end.
    rows : (batch_size,) int32, the mini-batch of a step
    batches : scalar int32, mini-batches of an epoch
    test, test_weight : (n_test,) rows that are held out, and their weights
    variance : (n_outputs,) weighted variance of the held-out targets
    share : scalar, what the task's criterion is multiplied by; 0 for rows that are only fitted
    start : list of Layer, the starting weights
    fixed : dict of the hyperparameters that are not tuned
    """

    X: Any
    y: Any
    weight: Any
    order: Any
    rows: Any
    batches: Any
    test: Any
    test_weight: Any
    variance: Any
    share: Any
    start: Any
    fixed: Any


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron.

    Parameters
    ----------
    loss : callable, (raw, y) -> (n_samples,)
        One of `skhypergrad.bilevel.losses`.
    activation : {"identity", "logistic", "tanh", "relu"}
        Of the hidden layers.

    Notes
    -----
    `hyper` may have `alpha` and `init_scale`, which multiplies the starting coefficients: one number, or one for each layer.
    What it has not is taken from `Lesson.fixed`.
    """

    loss: Callable
    activation: str

    def init(self, hyper, data) -> list[Layer]:
        scales = by_layer(valued(hyper, data, "init_scale"), data.start)
        return [Layer(coef * scale, intercept) for scale, (coef, intercept) in zip(scales, data.start, strict=True)]

    def raw(self, params, X):
        """(n_samples, n_outputs) raw predictions."""
        activation = ACTIVATIONS[self.activation]
        for layer in params[:-1]:
            X = activation(X @ layer.coef + layer.intercept)
        return X @ params[-1].coef + params[-1].intercept

    def inner(self, params, hyper, data):
        loss, penalty = self._parts(params, hyper, data)
        return loss + penalty

    def reported(self, params, hyper, data):
        """The loss that scikit-learn tells: `inner` with the mean over several targets in place of the sum."""
        loss, penalty = self._parts(params, hyper, data)
        return loss / (data.y.shape[1] if self.loss is losses.squared else 1) + penalty

    def _parts(self, params, hyper, data):
        rows = data.rows
        weight = jnp.take(data.weight, rows, mode="fill", fill_value=0.0)
        total = jnp.sum(weight)
        X, y = (jnp.take(table, rows, axis=0, mode="clip") for table in (data.X, data.y))
        strengths = by_layer(valued(hyper, data, "alpha"), params)
        penalty = sum(
            strength * jnp.vdot(layer.coef, layer.coef) for strength, layer in zip(strengths, params, strict=True)
        )
        total = jnp.where(total > 0, total, 1.0)
        return jnp.vdot(weight, self.loss(self.raw(params, X), y)) / total, penalty / 2 / total


def batch(data: Lesson, step) -> Lesson:
    """The lesson with the mini-batch of a step."""
    return data._replace(rows=data.order[step % data.order.shape[0]])


def valued(hyper, data, name):
    """A hyperparameter, tuned or fixed, in the precision of the rows."""
    return jnp.asarray(hyper[name] if name in hyper else data.fixed[name]).astype(data.X.dtype)


def scheduled(values, share):
    """What a share of the way from the first of the `values` to the last: geometric between each two neighbours."""
    last = values.shape[0] - 1
    place = jnp.clip(share, 0, 1) * last
    before = jnp.minimum(jnp.floor(place).astype(int), max(last - 1, 0))
    after, beyond = jnp.minimum(before + 1, last), (place - before).astype(values.dtype)
    return values[before] ** (1 - beyond) * values[after] ** beyond


def by_layer(value, layers) -> list:
    """One number for every layer."""
    return [value[i] if value.ndim else value for i in range(len(layers))]


@functools.cache
def held_out_rows(model: MLP, criterion: Callable) -> Problem:
    """The bilevel problem of a network judged by `criterion` on the rows each task holds out; cached as `models.held_out`."""

    def outer(params, hyper, data):
        X, y = (jnp.take(table, data.test, axis=0, mode="clip") for table in (data.X, data.y))
        return data.share * criterion(model.raw(params, X), y, data.test_weight, data.variance)

    return Problem(inner=model.inner, outer=outer, init=model.init, batch=batch)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Training:
    """The solver that a network is trained by, its rates among the hyperparameters or among the fixed values.

    Parameters
    ----------
    rule : {"adam", "momentum", "nesterov"}
    steps : int or None, default=None
        With a number of steps the learning rate has a schedule: its values, along a leading axis, are those at equal
        distances from the first step to the last, and between two of them it changes by the same factor at every step.
    """

    rule: str = field(metadata={"static": True})
    steps: int | None = field(default=None, metadata={"static": True})

    unrollable: ClassVar[bool] = True

    def _solver(self, hyper, data, step):
        def rate(name):
            value = valued(hyper, data, name)
            if name == "learning_rate_init" and self.steps is not None:
                value = scheduled(value, step / max(self.steps - 1, 1))
            if not value.ndim:
                return value
            return [Layer(value[i], value[i]) for i in range(len(data.start))]

        if self.rule == "adam":
            return Adam(rate("learning_rate_init"), rate("beta_1"), rate("beta_2"), rate("epsilon"))
        return {"momentum": Momentum, "nesterov": Nesterov}[self.rule](rate("learning_rate_init"), rate("momentum"))

    def init(self, problem, hyper, data, params):
        return self._solver(hyper, data, 0).init(problem, hyper, data, params)

    def step(self, problem, hyper, data, state):
        return self._solver(hyper, data, state.step).step(problem, hyper, data, state)

    def params(self, state):
        return state.params
