"""The choice of a representation of the folds, and those that keep the rows: rotated, or as they are."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import scipy.sparse

from skhypergrad.bilevel.folds.data import Fold, Folds, Restoration, RowCombinations, Rows, common, fit_into, padded
from skhypergrad.bilevel.folds.factors import axes_of_rows, basis_of_columns, products_of_rows
from skhypergrad.bilevel.folds.squared import condensed, diagonalized
from skhypergrad.bilevel.folds.tables import Affine, Rescaled, Table, affine
from skhypergrad.bilevel.matrices import (
    ColumnScaled,
    Diagonal,
    HostMatrix,
    RowScaled,
    Sparse,
    TwoPrecisions,
    in_threads,
)

# Above this a factorisation, cubic in the smaller side, costs more than the iterations it saves.
LARGEST_BASIS = 2048

# From this size on products in float32 save more time than they take to compile. With the number of classes grow both the
# columns of a product and the products of a solve: cells count by its square.
MANY_CELLS = 1 << 22


def cut(table: Table, *, squared: bool, fit_intercept: bool, rotates: bool = True) -> Folds:
    """Choose the representation of the folds, and bring them to the device.

    Parameters
    ----------
    table : Table
    squared : bool
        Whether inner and outer objective see the rows only through sums of squared errors.
    fit_intercept : bool
    rotates : bool, default=True
        Whether a change of basis does no harm. False where the penalty tells features apart; X is one matrix then.
    """
    folds = _represented(table, squared, fit_intercept, rotates)
    # at once, and not by jnp.asarray, which compiles a program for every shape
    return folds._replace(data=jax.device_put(folds.data))


def _represented(table: Table, squared: bool, fit_intercept: bool, rotates: bool) -> Folds:
    """Diagonalized, rotated or, for sparse X and where that would do harm, as they are."""
    if isinstance(table.X, Rescaled) or scipy.sparse.issparse(table.X[0] if isinstance(table.X, list) else table.X):
        return _sparse(table, fit_intercept)
    if not rotates:
        return condensed(table, fit_intercept) if squared else _plain(table, fit_intercept)
    if isinstance(table.X, list) and (relation := affine(table.X)) is not None:
        table = table._replace(X=relation)
    first = table.X[0] if isinstance(table.X, list) else table.X
    if squared and min(first.shape) <= LARGEST_BASIS:
        return diagonalized(table, fit_intercept)
    # without an intercept nothing takes a shift up, and a basis of few rows does not tell features apart
    apart = isinstance(table.X, Affine) and (not fit_intercept or first.shape[0] < first.shape[1])
    return _stacked(table, fit_intercept) if apart or isinstance(table.X, list) else _shared(table, fit_intercept)


def _held(X, outputs: int):
    """Dense rows as the engine holds them: in two precisions where products are what costs."""
    return TwoPrecisions.of(X) if X.shape[-2] * X.shape[-1] * outputs**2 >= MANY_CELLS else X


def _padded_rows(table: Table) -> tuple[int, Any, Any, Any]:
    """The padded number of rows, and y and both weights brought to it."""
    n, outputs = table.y.shape
    size = padded(n)
    train, test = (fit_into(w, len(w), size) for w in (table.train_weight, table.test_weight))
    return size, fit_into(table.y, size, outputs), train, test


def _sparse(table: Table, fit_intercept: bool) -> Folds:
    """Sparse rows as they are: centring or rotating would fill them."""
    n, y, train_weight, test_weight = _padded_rows(table)
    stacked, rescaled = isinstance(table.X, list), isinstance(table.X, Rescaled)
    hosts = [HostMatrix(matrix) for matrix in (table.X if stacked else [table.X.matrix if rescaled else table.X])]
    features = max(host.rows.shape[1] for host in hosts)
    width = padded(features)
    X: Any = Sparse.stack(hosts, (n, width))
    axis: Any = 0 if stacked else None
    if not stacked:
        X = jax.tree.map(lambda part: part[0], X)
    if rescaled:
        rows, columns = (fit_into(f, len(f), size) for f, size in ((table.X.rows, n), (table.X.columns, width)))
        X, axis = RowScaled(rows, ColumnScaled(columns, X)), RowScaled(0, ColumnScaled(0, None))
    data = Fold(train=Rows(X, y, train_weight), test=Rows(None, None, test_weight), to_features=None, **common(table))
    restore = Restoration(basis=None, center=np.zeros((1, features)), y_center=np.zeros((1, y.shape[1])))
    return Folds(data, _axes(rows=axis), restore, fit_intercept, tuple(hosts))


def _axes(rows=None, to_features=None) -> Fold:
    """Axes of data with one y for all folds; X is `rows`, None where that is one, too."""
    return Fold(
        train=Rows(rows, None, 0), test=Rows(None, None, 0), variance=0, offset=0, to_features=to_features, share=0
    )


def _shared(table: Table, fit_intercept: bool) -> Folds:
    """Dense rows held once: centred, rotated, with weights per fold, and with the way back where folds were scaled apart.

    With X_k = X * scale_k + shift_k, the intercept takes the shift up, and coefficients v of X stand for v / scale_k of
    X_k: the penalty is on those.
    """
    relation = table.X if isinstance(table.X, Affine) else None
    X, common_scale = (table.X, None) if relation is None else (relation.X, relation.scale[0])
    n, y, train_weight, test_weight = _padded_rows(table)
    weight = table.train_weight.sum(axis=0)
    used = ((table.train_weight > 0) | (table.test_weight > 0)).any(axis=0)
    rotated, basis, center = _rotated(X, weight, used, fit_intercept, common_scale)
    rows = _held(fit_into(rotated, n, padded(rotated.shape[1])), y.shape[1])
    center = center[None]
    bases: Any = None if basis is None else [basis]
    to_features: Any = None
    axis: Any = None
    if relation is not None:
        # the rows are in the first fold's units, from which the others' are not far
        ratio, width = common_scale / relation.scale, rows.shape[1]
        if basis is None:
            bases, axis = list(map(Diagonal, ratio)), Diagonal(0)
            to_features = Diagonal(fit_into(ratio, len(ratio), width))
        else:
            bases, axis = list(ratio[:, :, None] * basis), RowScaled(0, None)
            to_features = RowScaled(ratio, fit_into(basis, len(basis), width))
        center = relation.shift + center * relation.scale
    data = Fold(
        train=Rows(rows, y, train_weight), test=Rows(None, None, test_weight), to_features=to_features, **common(table)
    )
    restore = Restoration(bases, center, np.zeros((1, y.shape[1])))
    return Folds(data, _axes(to_features=axis), restore, fit_intercept)


def _stacked(table: Table, fit_intercept: bool) -> Folds:
    """Dense rows that differ from fold to fold, each fold rotated on its own."""
    n, y, train_weight, test_weight = _padded_rows(table)

    def fold(k):
        train, test = table.train_weight[k], table.test_weight[k]
        used = (train > 0) | (test > 0)
        if isinstance(table.X, Affine):
            X, scale, shift = table.X.X, table.X.scale[k], table.X.shift[k]
            rows, basis, center = _rotated(X, train, used, fit_intercept, scale, shift)
            return rows, basis, center * scale + shift
        X = table.X[k].whole()
        return _rotated(fit_into(X, len(X), features), train, used, fit_intercept)

    features = table.X.shape[1] if isinstance(table.X, Affine) else max(m.shape[1] for m in table.X)
    parts, bases, centers = zip(*in_threads(fold, range(len(table.share))), strict=True)
    width = padded(max(part.shape[1] for part in parts))
    X = _held(np.stack([fit_into(part, n, width) for part in parts]), y.shape[1])
    data = Fold(train=Rows(X, y, train_weight), test=Rows(None, None, test_weight), to_features=None, **common(table))
    restore = Restoration(None if bases[0] is None else bases, np.stack(centers), np.zeros((1, y.shape[1])))
    return Folds(data, _axes(rows=0), restore, fit_intercept)


def _plain(table: Table, fit_intercept: bool) -> Folds:
    """Dense rows held once in their own features, centred."""
    n, y, train_weight, test_weight = _padded_rows(table)
    center = _center(table.X, table.train_weight.sum(axis=0), fit_intercept)
    rows = _centred(table.X, center)
    X = fit_into(rows, n, padded(rows.shape[1]))
    data = Fold(train=Rows(X, y, train_weight), test=Rows(None, None, test_weight), to_features=None, **common(table))
    return Folds(data, _axes(), Restoration(None, center[None], np.zeros((1, y.shape[1]))), fit_intercept)


def _center(X, weight, fit_intercept, scale=None, shift=None) -> np.ndarray:
    """The weighted mean, which an intercept takes up; else what X * scale + shift makes zero."""
    if fit_intercept:
        return weight @ X / weight.sum()
    return np.zeros(X.shape[1]) if shift is None else -shift / scale


def _centred(X, center, used=None, scale=None) -> np.ndarray:
    """(X - center) * scale, with rows of zeros where they are not used."""
    rows = X - center
    if scale is not None:
        rows *= scale
    if used is not None and not used.all():
        rows[~used] = 0.0
    return rows


def _rotated(X, weight, used, fit_intercept, scale=None, shift=None):
    """Centred and scaled rows in another basis, that basis and the center; what is too large keeps its own basis, None."""
    center = _center(X, weight, fit_intercept, scale, shift)
    if LARGEST_BASIS >= X.shape[0] < X.shape[1]:
        return *_rotated_few(X, weight, used, fit_intercept, scale, center), center
    rows = _centred(X, center, used, scale)
    if min(X.shape) > LARGEST_BASIS:
        return rows, None, center
    same = np.ptp(weight[used]) == 0
    basis = basis_of_columns(rows, None if same else weight)
    return rows @ basis, basis, center


def _rotated_few(X, weight, used, fit_intercept, scale, center):
    """The same for few rows of many features, which are not formed at once."""
    kept = X if used.all() else X[used]
    products, null = products_of_rows(kept, center, scale), weight[used] if fit_intercept else None
    d, left = axes_of_rows(products, lambda: _centred(kept, center, scale=scale), null)
    rotated, weights = (np.zeros((len(X), len(d))) for _ in range(2))
    rotated[used], weights[used] = left * d, left / d
    scale = np.ones(X.shape[1]) if scale is None else scale
    return rotated, RowCombinations(X, np.ones(len(X)), center, scale, weights)
