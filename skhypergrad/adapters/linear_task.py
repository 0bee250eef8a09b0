"""Linear models: the folds are cut from one table, and coefficients come back."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import scipy.sparse
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.utils import _safe_indexing

from skhypergrad.adapters.base import Adapter
from skhypergrad.adapters.scaling import Scaled
from skhypergrad.adapters.scoring import CRITERIA
from skhypergrad.adapters.task import Cut, Task, check_weights
from skhypergrad.adapters.text import Vectorized
from skhypergrad.bilevel import ClosedForm, Implicit, Nesterov, Preconditioner, losses
from skhypergrad.bilevel.folds import Folds, Parts, Table, cut
from skhypergrad.bilevel.matrices import Diagonal
from skhypergrad.bilevel.models import LinearModel, held_out

# A sparse matrix is stored densely below this many cells in all folds (64 MiB): products and rotations are faster there.
DENSE_CELLS = 1 << 23

# Where the preconditioner is the inverse of the Hessian, which is diagonal and does not change.
CLOSED_FORM = Implicit(ClosedForm(), linear_solver=Preconditioner())

# Steps of a run that is differentiated, where no method says how many.
STEPS = 300


class LinearTask(Task):
    """A linear model on one set of splits; the weights of a split are coef (n_features, n_outputs) and intercept."""

    adapter: Adapter

    def cut(self, criterion: str) -> Cut:
        """The folds on the device and the problem they are the tasks of."""
        target = self.target
        with jax.enable_x64(True):
            folds = cut(self.table(), squared=target.loss is losses.squared, fit_intercept=self.adapter.fit_intercept)
        model = LinearModel(target.loss, self.adapter.strength, folds.fit_intercept)

        def restore(params):
            coef, intercept = folds.restore(params)
            features = map(self.n_features, range(len(self.splits)))
            return list(zip([c[:p] for c, p in zip(coef, features, strict=True)], intercept + self.offset, strict=True))

        return Cut(
            held_out(model, CRITERIA[criterion]),
            folds.data,
            folds.axes,
            restore,
            unrolled(model, self),
            STEPS,
            folds.keep,
            through_the_optimum(folds),
        )

    def write(self, estimator, weights, dtype) -> None:
        coef, intercept = weights
        self.adapter.write(estimator, coef.astype(dtype), intercept.astype(dtype), self.target, self.labels)

    def knows_labels(self) -> bool:
        # of whatever else is registered, `predict` may do something else
        known = getattr(type(self.last), "predict", None) in (LogisticRegression.predict, RidgeClassifier.predict)
        return known and np.ndim(self.labels) == 1

    def predicted_labels(self, weights, X) -> np.ndarray:
        coef, intercept = weights
        raw = X @ coef + intercept
        return raw.argmax(axis=1) if raw.shape[1] > 1 else (raw[:, 0] > 0).astype(int)

    def unscaled(self, weights, hyper) -> list[Any]:
        _, scale, shift = self.shared.table
        moved = [
            (a[:, None] * coef, b @ coef + intercept)
            for a, b, (coef, intercept) in zip(scale, shift, weights, strict=True)
        ]
        few = _safe_indexing(self.raw_X, [0])
        return self.estimators(moved, hyper, [few] * len(moved))

    def table(self) -> Table:
        """What the folds are cut from."""
        n, k = len(self.labels), len(self.splits)
        train_weight, test_weight = np.zeros((k, n)), np.zeros((k, n))
        for i, (train, test) in enumerate(self.splits):
            weight = self.adapter.train_weight(_safe_indexing(self.labels, train), self.train_weight(i))
            np.add.at(train_weight[i], train, weight)
            np.add.at(test_weight[i], test, self.test_weight(i))
            check_weights(i, train_weight[i], test_weight[i])
        self.offset = self._offset(train_weight)
        return Table(self._matrices(), self.target.y, train_weight, test_weight, self.offset, self.share())

    def _offset(self, train_weight):
        """Log eps for a class without training rows, as `log_loss` would clip its probability; 0 otherwise."""
        y, loss = self.target.y, self.target.loss
        if loss is losses.squared:
            return np.zeros((len(train_weight), y.shape[1]))
        floor = np.log(np.finfo(float).eps)
        present = train_weight @ y > 0
        if loss is losses.multinomial:
            return np.where(present, 0.0, floor)
        other = train_weight @ (1 - y) > 0
        return np.where(present, 0.0, floor) - np.where(other, 0.0, floor)

    def _matrices(self):
        n, k = len(self.labels), len(self.splits)
        if isinstance(self.shared, Scaled):
            return self.shared.table
        if isinstance(self.shared, Vectorized):
            table, everything = self.shared.table, np.arange(n)
            if not _small(table.matrix, k):
                return table
            return [Parts.of(table.fold(i, everything).toarray()) for i in range(k)]
        if self.X is not None:
            return _array(self.X) if _small(self.X, 1) or not scipy.sparse.issparse(self.X) else self.X
        parts = [(part.X_train, part.X_test) for part in self.parts]
        dense = all(_small(m, k * n / max(m.shape[0], 1)) for pair in parts for m in pair)
        tables: list[Any] = []
        for (train, test), (X_train, X_test) in zip(self.splits, parts, strict=True):
            if dense or not scipy.sparse.issparse(X_train):
                tables.append(Parts(n, ((train, _array(X_train)), (test, _array(X_test)))))
            else:
                tables.append(_scattered(X_train, train, n) + _scattered(X_test, test, n))
        return tables


def through_the_optimum(folds: Folds) -> Implicit | None:
    """The hypergradient that suits the folds, None for the usual one."""
    return CLOSED_FORM if isinstance(folds.data.train.X, Diagonal) else None


def unrolled(model: LinearModel, task: LinearTask) -> Nesterov:
    """The solver whose steps are differentiated where the optimum is not."""
    return Nesterov(model.learning_rate(task.target.y.shape[1]), 0.9, preconditioned=True)


def _small(X, copies) -> bool:
    return scipy.sparse.issparse(X) and copies * X.shape[0] * X.shape[1] <= DENSE_CELLS


def _array(X):
    # in one layout, so that rounding does not tell frames and arrays apart
    return X.toarray() if scipy.sparse.issparse(X) else np.ascontiguousarray(X)


def _scattered(X, rows, n):
    """The rows of X at their places among n, as CSR."""
    X = scipy.sparse.coo_array(X)
    return scipy.sparse.csr_array((X.data, (np.asarray(rows)[X.row], X.col)), shape=(n, X.shape[1]))
