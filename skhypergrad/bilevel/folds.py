"""Cross-validation folds as the engine's tasks: rows held once, a pair of row weights per fold.

A weight of 0 leaves a row out, so folds of any size have one shape, and one product `X @ W` serves all of them. What can
be computed once is computed here, exactly, by a change of basis that the L2 penalty does not notice:

* `rotated`: the features in the basis of their own singular vectors, at most min(n_samples, n_features) of them. Any
  loss; the Hessian of every fold becomes nearly diagonal, and p >> n costs no more than p = n.
* `diagonalized`: for squared loss, every fold in the basis of its *own* singular vectors: the inner problem becomes a
  diagonal one with min(n, p) rows, the held-out rows a triangle. The number of samples disappears, and no normal
  equations are formed: the error is that of an SVD, about sqrt(cond) * eps.

Shapes are rounded up to a few sizes (`padded`), so that a slightly larger table compiles nothing new.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skhypergrad.bilevel.matrices import Diagonal, Sparse

# Above this a factorisation, cubic in the smaller side, costs more than the iterations it saves.
LARGEST_BASIS = 2048


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
        What the inner and the outer objective see.
    variance : (n_outputs,) weighted variance of the held-out targets
    offset : (n_outputs,) a fixed part of the raw prediction
    """

    train: Any
    test: Any
    variance: Any
    offset: Any


class Restoration(NamedTuple):
    """The way back from the basis of the folds to the features: `center` and `basis` per fold, or one for all.

    Attributes
    ----------
    basis : (n_folds or 1, n_features, n_directions) or None for the features themselves
    center : (n_folds or 1, n_features) subtracted from X
    y_center : (n_folds or 1, n_outputs) subtracted from y
    """

    basis: Any
    center: Any
    y_center: Any

    def __call__(self, params) -> tuple[np.ndarray, np.ndarray]:
        """coef (n_folds, n_features, n_outputs) and intercept (n_folds, n_outputs) of stacked `LinearParams`."""
        coef = np.array(params.coef)
        coef = coef[:, : self.center.shape[1]] if self.basis is None else self.basis @ coef
        intercept = self.y_center - np.einsum("kp,kpt->kt", np.broadcast_to(self.center, coef.shape[:2]), coef)
        return coef, intercept if params.intercept is None else intercept + np.array(params.intercept)


class Folds(NamedTuple):
    """Stacked `Fold`s, the axis of each part for `vmap`, the way back, and whether an intercept is left to fit."""

    data: Fold
    axes: Fold
    restore: Restoration
    fit_intercept: bool


class Table(NamedTuple):
    """What the folds are cut from.

    Attributes
    ----------
    X : (n_samples, n_features) array or SciPy CSR matrix, or a list of them, one per fold
        A list where preprocessing was fitted on each fold's own training rows; rows are aligned with `y`.
    y : (n_samples, n_outputs)
    train_weight, test_weight : (n_folds, n_samples), non-negative
    offset : (n_folds, n_outputs)
    """

    X: Any
    y: np.ndarray
    train_weight: np.ndarray
    test_weight: np.ndarray
    offset: np.ndarray


def padded(n: int) -> int:
    """The smallest number m * 2**e >= n with 4 <= m <= 8 (at most a quarter of padding), and at least 8."""
    if n <= 8:
        return 8
    step = 1 << max(int(n - 1).bit_length() - 3, 0)
    return -(-n // step) * step


def cut(table: Table, *, squared: bool, fit_intercept: bool) -> Folds:
    """Choose the representation of the folds: `diagonalized`, `rotated` or, for large or sparse X, as they are.

    Parameters
    ----------
    table : Table
    squared : bool
        Whether inner and outer objective see the rows only through sums of squared errors.
    fit_intercept : bool
    """
    first = table.X[0] if isinstance(table.X, list) else table.X
    if not isinstance(first, np.ndarray):
        return _plain_sparse(table, fit_intercept)
    if min(first.shape) > LARGEST_BASIS:
        return _shared(table, fit_intercept, rotate=False)
    return diagonalized(table, fit_intercept) if squared else _shared(table, fit_intercept, rotate=True)


def _common(table: Table) -> dict:
    """The parts that do not depend on the basis: (n_folds, ...) float64."""
    weight = table.test_weight / table.test_weight.sum(axis=1, keepdims=True)
    mean = weight @ table.y
    variance = np.stack([w @ (table.y - m) ** 2 for w, m in zip(weight, mean, strict=True)])
    return {"variance": jnp.asarray(variance), "offset": jnp.asarray(table.offset)}


def _assemble(X, X_axis, y, train_weight, test_weight, common) -> tuple[Fold, Fold]:
    """Data and axes of folds that share their rows and differ in the weights (and, in a pipeline, in X)."""
    data = Fold(train=Rows(X, y, train_weight), test=Rows(X, y, test_weight), **common)
    rows = Rows(X_axis, None, 0)
    return data, Fold(train=rows, test=rows, variance=0, offset=0)


def _pad_rows(array, n):
    return np.concatenate([array, np.zeros((n - array.shape[0], *array.shape[1:]))]) if n > array.shape[0] else array


def _padded_rows(table: Table) -> tuple[int, Any, Any, Any]:
    """The padded number of rows, and y and both weights brought to it, on the device."""
    n = padded(table.y.shape[0])
    train, test = (jnp.asarray(_pad_rows(w.T, n).T) for w in (table.train_weight, table.test_weight))
    return n, jnp.asarray(_pad_rows(table.y, n)), train, test


def _plain_sparse(table: Table, fit_intercept: bool) -> Folds:
    n, y, train_weight, test_weight = _padded_rows(table)
    stacked = isinstance(table.X, list)
    matrices = table.X if stacked else [table.X]
    p = padded(max(m.shape[1] for m in matrices))
    nnz = padded(max(m.nnz for m in matrices))
    pieces = [Sparse.from_scipy(m, (n, p), nnz) for m in matrices]
    X = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves) if stacked else leaves[0]), *pieces)
    data, axes = _assemble(X, 0 if stacked else None, y, train_weight, test_weight, _common(table))
    features = max(m.shape[1] for m in matrices)
    restore = Restoration(basis=None, center=np.zeros((1, features)), y_center=np.zeros((1, y.shape[1])))
    return Folds(data, axes, restore, fit_intercept)


@jax.jit
def _centered(X, mask, center):
    return (X - center) * mask[:, None]


@jax.jit
def _rotation(X, weight):
    """(n_features, min(n, p)) orthonormal columns that span the rows of X, its singular vectors as well as may be.

    The smaller Gram matrix is diagonalised. It squares the condition number, so small singular vectors are mixed among
    themselves, but the columns are orthonormal to rounding, which is all that exactness needs.
    """
    n, p = X.shape
    if p <= n:
        scaled = jnp.sqrt(weight)[:, None] * X
        return jnp.linalg.eigh(scaled.T @ scaled)[1]
    q, r = jnp.linalg.qr(X.T)
    return q @ jnp.linalg.svd(r.T, full_matrices=False)[2].T


def _shared(table: Table, fit_intercept: bool, rotate: bool) -> Folds:
    """Dense rows with weights per fold, centred, and rotated where that pays."""
    n, y, train_weight, test_weight = _padded_rows(table)
    stacked = isinstance(table.X, list)
    matrices = table.X if stacked else [table.X]
    features = max(m.shape[1] for m in matrices)
    p = padded(features)
    total = np.concatenate([table.train_weight, table.test_weight])
    parts, bases, centers = [], [], []
    for k, matrix in enumerate(matrices):
        weight = (table.train_weight[k] if stacked else table.train_weight.sum(axis=0)).astype(float)
        used = total[[k, k + len(matrices)]] if stacked else total
        mask = jnp.asarray(_pad_rows((used > 0).any(axis=0).astype(float), n))
        center = np.zeros(p)
        if fit_intercept:
            center[: matrix.shape[1]] = weight @ matrix / weight.sum()
        padding = np.zeros((n, p))
        padding[: matrix.shape[0], : matrix.shape[1]] = matrix
        X = _centered(padding, mask, center)
        if rotate:
            basis = _rotation(X, jnp.asarray(_pad_rows(weight, n)))
            X = X @ basis
            bases.append(np.array(basis)[:features])
        parts.append(X)
        centers.append(center[:features])
    X = jnp.stack(parts) if stacked else parts[0]
    data, axes = _assemble(X, 0 if stacked else None, y, train_weight, test_weight, _common(table))
    restore = Restoration(
        basis=np.stack(bases) if rotate else None, center=np.stack(centers), y_center=np.zeros((1, y.shape[1]))
    )
    return Folds(data, axes, restore, fit_intercept)


def diagonalized(table: Table, fit_intercept: bool) -> Folds:
    """Every fold in the basis of its own training rows' singular vectors, for squared loss (see the module)."""
    stacked = isinstance(table.X, list)
    blocks = None if stacked else _blocks(table)
    ones, X, y, train_weight, test_weight = blocks or (
        np.ones(len(table.y)),
        table.X,
        table.y,
        table.train_weight,
        table.test_weight,
    )
    features = max(m.shape[1] for m in X) if stacked else X.shape[1]
    train_size = padded(max((train_weight > 0).sum(axis=1)))
    test_size = padded(max((test_weight > 0).sum(axis=1)))
    folds = []
    for k in range(len(train_weight)):
        matrix = X[k] if stacked else X
        rows = [
            _gather(ones, matrix, y, weight[k], size, padded(features))
            for weight, size in ((train_weight, train_size), (test_weight, test_size))
        ]
        folds.append(_diagonalize(*rows[0], *rows[1], fit_intercept=fit_intercept))
    d, c, Z, t, weight, basis, center, y_center = (jnp.stack(part) for part in zip(*folds, strict=True))
    data = Fold(train=Rows(Diagonal(d), c, jnp.ones_like(d)), test=Rows(Z, t, weight), **_common(table))
    axes = Fold(train=Rows(0, 0, 0), test=Rows(0, 0, 0), variance=0, offset=0)
    restore = Restoration(np.array(basis)[:, :features], np.array(center)[:, :features], np.array(y_center))
    return Folds(data, axes, restore, fit_intercept=False)


def _gather(ones, X, y, weight, n, p):
    """The rows of positive weight as [1 X y], scaled by the square root of their weight, with padding of zeros."""
    index = np.flatnonzero(weight)
    root = np.sqrt(weight[index])[:, None]
    matrix = np.zeros((n, p))
    matrix[: len(index), : X.shape[1]] = root * X[index]
    return _pad_rows(root[:, 0] * ones[index], n), matrix, _pad_rows(root * y[index], n)


def _blocks(table: Table):
    """Replace rows that always travel together by the triangle of their QR decomposition.

    Two rows travel together when their weights, relative to each other, agree in every fold: under K-fold there are K
    groups. An orthogonal transformation of a group changes no sum of squares, so its n rows become p + outputs + 1.
    Returns None where that would not at least halve the rows.
    """
    weights = np.concatenate([table.train_weight, table.test_weight])
    base = weights.max(axis=0)
    kept = np.flatnonzero(base > 0)
    width = table.X.shape[1] + table.y.shape[1] + 1
    if len(weights) > 64 or 2 * width > len(kept):
        return None
    pattern, group = np.unique(weights[:, kept] / base[kept], axis=1, return_inverse=True)
    group = group.ravel()
    if 2 * pattern.shape[1] * width > len(kept):
        return None
    size = padded(np.bincount(group).max())
    stacks = np.zeros((pattern.shape[1], size, width))
    for g in range(pattern.shape[1]):
        index = kept[group == g]
        root = np.sqrt(base[index])[:, None]
        stacks[g, : len(index)] = root * np.column_stack([np.ones(len(index)), table.X[index], table.y[index]])
    triangles = np.array(_triangle(stacks)).reshape(-1, width)
    train, test = np.split(np.repeat(pattern, width, axis=1), 2)
    return triangles[:, 0], triangles[:, 1 : 1 + table.X.shape[1]], triangles[:, 1 + table.X.shape[1] :], train, test


@jax.jit
def _triangle(rows):
    return jnp.linalg.qr(rows, mode="r")


@jax.jit(static_argnames="fit_intercept")
def _diagonalize(ones, X, y, test_ones, test_X, test_y, *, fit_intercept):
    """One fold: (d, c) of the training rows, the held-out rows in the same basis, and the way back.

    All rows come scaled by the square root of their weight; `ones` is the column that an intercept multiplies. With
    X_c = X - ones center = U d V^T and y_c likewise, the fit minimises |d u - U^T y_c|**2 + alpha |u|**2, coef = V u.
    """
    outputs = y.shape[1]
    total = test_ones @ test_ones
    if fit_intercept:
        center, y_center = (ones @ X) / (ones @ ones), (ones @ y) / (ones @ ones)
        X, y = X - jnp.outer(ones, center), y - jnp.outer(ones, y_center)
        test_X = test_X - jnp.outer(test_ones, center)
        test_y = test_y - jnp.outer(test_ones, y_center)
    else:
        center, y_center = jnp.zeros(X.shape[1]), jnp.zeros(outputs)
    n, p = X.shape
    if n >= p:
        triangle = jnp.linalg.qr(jnp.concatenate([X, y], axis=1), mode="r")
        left, d, right = jnp.linalg.svd(triangle[:p, :p], full_matrices=False)
        c, basis = left.T @ triangle[:p, p:], right.T
    else:
        q, r = jnp.linalg.qr(X.T)
        left, d, right = jnp.linalg.svd(r.T, full_matrices=False)
        c, basis = left.T @ y, q @ right.T
    held = jnp.concatenate([test_X @ basis, test_y], axis=1)
    if held.shape[0] > held.shape[1]:
        held = jnp.linalg.qr(held, mode="r")
    rows = held.shape[0]
    # equal weights that sum to the fold's total, so that a weighted mean of squares stays what it was
    weight = jnp.full(rows, total / rows)
    held = held * jnp.sqrt(rows / total)
    return d, c, held[:, :-outputs], held[:, -outputs:], weight, basis, center, y_center
