"""Models: how parameters become raw predictions, and what their training minimises."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from skhypergrad.bilevel import losses, penalties
from skhypergrad.bilevel.gram import Gram, cholesky_by_task
from skhypergrad.bilevel.matrices import TwoPrecisions, products, squares
from skhypergrad.bilevel.problem import Problem, lowered

# Up to this size of the smaller side of the rows, blocks of the Hessian are factorised: that costs some 30 products, and
# saves hundreds. Above the first size only where the copy of the rows that every task makes for each output, in numbers, is
# not larger than this.
SMALL_BLOCK, LARGEST_BLOCK, LARGEST_COPY = 128, 1024, 2**23


class LinearParams(NamedTuple):
    """coef (n_features, n_outputs) and intercept (n_outputs,), None where none is fitted."""

    coef: Any
    intercept: Any


@dataclass(frozen=True)
class LinearModel:
    """A generalised linear model with an L2 penalty, in scikit-learn's sum form.

        inner = sum_i weight_i loss(raw_i, y_i) + strength * |coef|**2 / 2,      raw = X coef + intercept + offset

    Parameters
    ----------
    loss : callable, (raw, y) -> (n_samples,)
        One of `skhypergrad.bilevel.losses`.
    strength : callable, hyper -> scalar, (n_outputs,) or (n_features, 1)
        The penalty as a function of the hyperparameters, for instance 1 / C; at module level, so that it compares equal.
    fit_intercept : bool, default=True
    rotated : bool, default=True
        Whether the features are directions in which the Hessian is nearly diagonal (see `folds`). False for features as
        they were given.

    Notes
    -----
    `data` is a `folds.Fold`. The preconditioner is the diagonal of the Hessian and costs two products. In features that
    were rotated it is close to the whole Hessian; for squared loss on a fold's own singular vectors it is the Hessian. In
    features as they were given it is each output's block of the Hessian, factorised, as long as the rows are dense and one
    side of them is small.
    """

    loss: Callable
    strength: Callable
    fit_intercept: bool = True
    rotated: bool = True

    def learning_rate(self, n_outputs: int) -> float:
        """A rate at which preconditioned gradient steps are not too long, wherever they lead.

        The preconditioner is the Hessian's diagonal at raw predictions of zero. There the squared and the logistic loss have
        their largest curvature; the softmax of c classes has 1/c - 1/c**2 on the diagonal, and 1/2 at most anywhere (Böhning
        1992). The rest allows for what is not on the diagonal.
        """
        largest = n_outputs**2 / (2 * (n_outputs - 1)) if self.loss is losses.multinomial else 1.0
        return 0.7 / largest

    def init(self, hyper, data) -> LinearParams:
        outputs = data.train.y.shape[-1]
        coef = jnp.zeros((data.train.X.shape[-1], outputs), data.train.y.dtype)
        return LinearParams(coef=coef, intercept=jnp.zeros(outputs, coef.dtype) if self.fit_intercept else None)

    def raw(self, params, X, offset):
        """(n_samples, n_outputs) raw predictions."""
        raw = X @ params.coef + offset
        return raw if params.intercept is None else raw + params.intercept

    def inner(self, params, hyper, data):
        rows = data.train
        loss = losses.weighted(rows.weight, self.loss(self.raw(params, rows.X, data.offset), rows.y))
        return loss + penalties.ridge(_of_features(params.coef, data), self.strength(hyper))

    def precondition(self, params, hyper, data):
        rows = data.train
        raw = self.raw(params, rows.X, data.offset)
        curvature = rows.weight[:, None] * self._curvature(raw, rows.y)
        if not self.rotated and isinstance(rows.X, jax.Array) and _factorises(rows.X.shape, curvature.shape[1]):
            strength = jnp.broadcast_to(self._penalised(params.coef, hyper, data), params.coef.shape)
            return self._blocks(rows.X, curvature, strength)
        return LinearParams(
            coef=_positive(squares(rows.X, curvature) + self._penalised(params.coef, hyper, data)),
            intercept=_positive(jnp.sum(curvature, axis=0)) if self.fit_intercept else None,
        )

    def _blocks(self, X, curvature, strength):
        """The inverse of every output's block of the Hessian.

        The intercept is eliminated: what is left is the matrix of ridge regression on rows centred by their weighted mean.
        """

        def factorise(weight, strength):
            total = _positive(jnp.sum(weight))
            center = weight @ X / total if self.fit_intercept else jnp.zeros(X.shape[1])
            if X.shape[0] < X.shape[1]:
                rows = jnp.sqrt(weight)[:, None] * (X - center)
                return Gram.of(rows, strength, cholesky_by_task), center, total
            return Gram.of_products(products(X, weight, center), strength, cholesky_by_task), center, total

        # one output after the other, as with the curvature
        grams, centers, totals = jax.lax.map(lambda pair: factorise(*pair), (curvature.T, strength.T))

        def apply(v):
            def solve(gram, center, total, coef, intercept):
                coef = gram.solve(coef - center * intercept)
                return coef, intercept / total - center @ coef

            intercept = jnp.zeros(v.coef.shape[1]) if v.intercept is None else v.intercept
            coef, intercept = jax.vmap(solve)(grams, centers, totals, v.coef.T, intercept)
            return LinearParams(
                coef=coef.T.astype(v.coef.dtype),
                intercept=None if v.intercept is None else intercept.astype(v.intercept.dtype),
            )

        return apply

    def _penalised(self, coef, hyper, data):
        """The diagonal of the penalty's Hessian, broadcast against `coef`."""
        strength = self.strength(hyper)
        if data.to_features is None:
            return strength
        return squares(data.to_features, jnp.broadcast_to(strength, (data.to_features.shape[0], coef.shape[1])))

    def lower(self, data):
        """The fold in float32, where its rows are held in that precision too."""
        if not isinstance(data.train.X, TwoPrecisions):
            return None
        low = lowered(data)
        return low._replace(train=low.train._replace(X=low.train.X.rough))

    def _curvature(self, raw, y):
        """Second derivative of each row's loss in each of its raw predictions, (n_samples, n_outputs)."""
        if self.loss in losses.CURVATURES:
            return losses.CURVATURES[self.loss](raw)

        def slope(raw):
            return jax.grad(lambda raw: jnp.sum(self.loss(raw, y)))(raw)

        def along(output):
            unit = jnp.zeros_like(raw).at[:, output].set(1.0)
            return jax.jvp(slope, (raw,), (unit,))[1][:, output]

        # one output after the other: all at once would take memory, and a copy of the code for each compilation time
        return jax.lax.map(along, jnp.arange(raw.shape[-1])).T


def _factorises(shape, n_outputs: int) -> bool:
    """Whether blocks of the Hessian on rows of this shape are worth their factors."""
    largest = LARGEST_BLOCK if shape[0] * shape[1] * n_outputs <= LARGEST_COPY else SMALL_BLOCK
    return min(shape) <= largest


def _positive(scale):
    """1 where there is nothing, in padding: a tiny number in place of zero has no finite derivative."""
    return jnp.where(scale > 0, scale, 1.0)


def _of_features(coef, data):
    return coef if data.to_features is None else data.to_features @ coef


@functools.cache
def held_out(model: LinearModel, criterion: Callable) -> Problem:
    """The bilevel problem of a model judged by `criterion` on each fold's held-out rows.

    Cached, because compiled code is keyed by the problem's functions.
    """

    def outer(params, hyper, data):
        rows = data.held_out()
        return data.share * criterion(model.raw(params, rows.X, data.offset), rows.y, rows.weight, data.variance)

    return Problem(inner=model.inner, outer=outer, init=model.init, precondition=model.precondition, lower=model.lower)
