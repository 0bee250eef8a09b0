"""What the engine sees of the folds, and the way back from its answers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skhypergrad.bilevel.folds.tables import Table
from skhypergrad.bilevel.matrices import HostMatrix


class Rows(NamedTuple):
    """X (n_samples, n_features), y (n_samples, n_outputs), weight (n_samples,)."""

    X: Any
    y: Any
    weight: Any


class Fold(NamedTuple):
    """The data of one fold.

    Attributes
    ----------
    train, test : Rows
        What the inner and the outer objective see; `test` has weights only where X and y are those of `train`.
    variance : (n_outputs,) weighted variance of the held-out targets
    offset : (n_outputs,) a fixed part of the raw prediction
    to_features : matrix from `n_features` directions to the features the penalty sees, None for an orthonormal basis
    share : scalar, what the fold's criterion is multiplied by; 0 for rows that are only fitted
    """

    train: Any
    test: Any
    variance: Any
    offset: Any
    to_features: Any
    share: Any

    def held_out(self) -> Rows:
        """What the outer objective sees."""
        return self.train._replace(weight=self.test.weight) if self.test.X is None else self.test


class RowCombinations(NamedTuple):
    """Directions ((X - ones center^T) * scale)^T weights, for X with few rows and many features, which are never formed.

    Attributes
    ----------
    X, ones : (n_samples, n_features), (n_samples,)
    center, scale : (n_features,)
    weights : (n_samples, n_directions)
    """

    X: np.ndarray
    ones: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    weights: np.ndarray

    @property
    def shape(self):
        return self.X.shape[1], self.weights.shape[1]

    def __matmul__(self, columns):
        rows = self.weights @ columns
        return self.scale[:, None] * (self.X.T @ rows - np.outer(self.center, self.ones @ rows))


class Restoration(NamedTuple):
    """The way back from the basis of the folds to the features: `center` and `basis` per fold, or one for all.

    Attributes
    ----------
    basis : one per fold, or one for all: (n_features, n_directions) array, `RowCombinations` or `Diagonal`; None for the
        features themselves
    center : (n_folds or 1, n_features) subtracted from X
    y_center : (n_folds or 1, n_outputs) subtracted from y
    """

    basis: Any
    center: Any
    y_center: Any

    def __call__(self, params) -> tuple[np.ndarray, np.ndarray]:
        """coef (n_folds, n_features, n_outputs) and intercept (n_folds, n_outputs) of stacked `LinearParams`."""
        coef = np.array(params.coef)
        if self.basis is None:
            coef = coef[:, : self.center.shape[1]]
        else:
            bases = self.basis if len(self.basis) == len(coef) else [self.basis[0]] * len(coef)
            features, outputs = self.center.shape[1], coef.shape[2]
            # directions that are padding have no coefficient
            parts = [basis @ part[: basis.shape[1]] for basis, part in zip(bases, coef, strict=True)]
            coef = np.stack([fit_into(part, features, outputs) for part in parts])
        intercept = self.y_center - np.einsum("kp,kpt->kt", np.broadcast_to(self.center, coef.shape[:2]), coef)
        return coef, intercept if params.intercept is None else intercept + np.array(params.intercept)


class Folds(NamedTuple):
    """Stacked `Fold`s, the axis of each part for `vmap`, the way back, and whether an intercept is left to fit.

    `keep` holds what the data refer to on the host: keep it as long as `data` is used.
    """

    data: Fold
    axes: Fold
    restore: Restoration
    fit_intercept: bool
    keep: tuple[HostMatrix, ...] = ()


def common(table: Table) -> dict:
    """The parts of the folds' data that do not depend on the basis: (n_folds, ...) float64."""
    weight = table.test_weight / table.test_weight.sum(axis=1, keepdims=True)
    mean = weight @ table.y
    variance = np.stack([w @ (table.y - m) ** 2 for w, m in zip(weight, mean, strict=True)])
    return {
        "variance": variance,
        "offset": np.asarray(table.offset),
        "share": np.asarray(table.share),
    }


def padded(n: int) -> int:
    """The smallest number m * 2**e >= n with 4 <= m <= 8 (at most a quarter of padding), and at least 8."""
    if n <= 8:
        return 8
    step = 1 << max(int(n - 1).bit_length() - 3, 0)
    return -(-n // step) * step


def fit_into(array, *shape) -> np.ndarray:
    """The same with zeros up to `shape`."""
    if array.shape == shape:
        return array
    out = np.zeros(shape)
    out[tuple(map(slice, array.shape))] = array
    return out
