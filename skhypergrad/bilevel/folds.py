"""Cross-validation folds as the engine's tasks: rows held once, a pair of row weights per fold.

A weight of 0 leaves a row out, so folds of any size have one shape, and one product `X @ W` serves all of them. What can
be computed once is computed here, exactly, by a change of basis that the L2 penalty does not notice:

* Rotation: the features in the basis of their own singular vectors, at most min(n_samples, n_features) of them. Any
  loss; the Hessian of every fold becomes nearly diagonal, and p >> n costs no more than p = n.
* `affine`: folds whose preprocessing only centred and scaled the columns share one matrix; the penalty sees each scale.
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
import scipy.sparse

from skhypergrad.bilevel.compiling import compiled
from skhypergrad.bilevel.matrices import Diagonal, HostMatrix, RowScaled, Sparse, TwoPrecisions

# Above this a factorisation, cubic in the smaller side, costs more than the iterations it saves.
LARGEST_BASIS = 2048

# Ratio of eigenvalues of X^T X, with columns of length one, above which it may stand in for X: condition numbers up to
# 1000, so that 1e-10 is what rounding may take.
WELL_CONDITIONED = 1e-6

# Rows that tell at little cost when folds are not affine images of each other.
SAMPLE = 64
MANY = 1024

# From this size on a product takes longer in float64 than in float32.
MANY_CELLS = 1 << 22


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
    to_features : matrix from `n_features` directions to the features the penalty sees, None for an orthonormal basis
    share : scalar, what the fold's criterion is multiplied by; 0 for rows that are only fitted
    """

    train: Any
    test: Any
    variance: Any
    offset: Any
    to_features: Any
    share: Any


class RowCombinations(NamedTuple):
    """Directions (X - center)^T weights, for X with few rows and many features, which are never formed.

    Attributes
    ----------
    X : (n_samples, n_features); center : (n_features,); weights : (n_samples, n_directions)
    """

    X: np.ndarray
    center: np.ndarray
    weights: np.ndarray

    def __matmul__(self, columns):
        rows = self.weights @ columns
        return self.X.T @ rows - np.outer(self.center, rows.sum(axis=0))


class Restoration(NamedTuple):
    """The way back from the basis of the folds to the features: `center` and `basis` per fold, or one for all.

    Attributes
    ----------
    basis : one per fold, or one for all: (n_features, n_directions) array or `RowCombinations`; None for the features
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
            coef = np.stack([basis @ part for basis, part in zip(bases, coef, strict=True)])
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


class Parts(NamedTuple):
    """A dense table in the pieces it was made in, so that its rows are copied once: to where they are used.

    Attributes
    ----------
    n_samples : int
    pieces : tuple of ((n,) row numbers, (n, n_features) rows)
        A row that no piece has is zero; of two versions the later one counts.
    """

    n_samples: int
    pieces: tuple

    @classmethod
    def of(cls, X) -> Parts:
        return cls(len(X), ((np.arange(len(X)), X),))

    @property
    def shape(self):
        return self.n_samples, self.pieces[0][1].shape[1]

    @property
    def is_complete(self) -> bool:
        return bool((self._places()[0] >= 0).all())

    def whole(self) -> np.ndarray:
        X = np.zeros(self.shape)
        for numbers, rows in self.pieces:
            X[numbers] = rows
        return X

    def take(self, index, out) -> None:
        """The rows of `index`; those of a piece that has just these, in this order, are that piece's."""
        for numbers, rows in self.pieces:
            if np.array_equal(numbers, index):
                out[...] = rows
                return
        piece, place = self._places()
        out[...] = 0.0
        for i, (_, rows) in enumerate(self.pieces):
            here = np.flatnonzero(piece[index] == i)
            out[here] = rows[place[index[here]]]

    def cells(self, index, columns) -> np.ndarray:
        """One cell for each pair of a row number and a column."""
        piece, place = self._places()
        cells = np.zeros(len(index))
        for i, (_, rows) in enumerate(self.pieces):
            here = piece[index] == i
            cells[here] = rows[place[index[here]], columns[here]]
        return cells

    def largest(self) -> np.ndarray:
        """The largest absolute value of every column, without a copy."""
        return np.max([np.maximum(rows.max(axis=0), -rows.min(axis=0)) for _, rows in self.pieces if len(rows)], axis=0)

    def _places(self):
        """For every row its piece, -1 for none, and its place there."""
        piece, place = np.full(self.n_samples, -1), np.zeros(self.n_samples, int)
        for i, (numbers, _) in enumerate(self.pieces):
            piece[numbers], place[numbers] = i, np.arange(len(numbers))
        return piece, place


class Table(NamedTuple):
    """What the folds are cut from.

    Attributes
    ----------
    X : (n_samples, n_features) array or SciPy CSR matrix, or a list of `Parts` or CSR matrices, one per fold
        A list where preprocessing was fitted on each fold's own training rows; rows are aligned with `y`.
    y : (n_samples, n_outputs)
    train_weight, test_weight : (n_folds, n_samples), non-negative
    offset : (n_folds, n_outputs)
    share : (n_folds,) with mean one
        0 for a fold that is solved along with the others and not judged; its test weights must not all be zero.
    """

    X: Any
    y: np.ndarray
    train_weight: np.ndarray
    test_weight: np.ndarray
    offset: np.ndarray
    share: np.ndarray


def padded(n: int) -> int:
    """The smallest number m * 2**e >= n with 4 <= m <= 8 (at most a quarter of padding), and at least 8."""
    if n <= 8:
        return 8
    step = 1 << max(int(n - 1).bit_length() - 3, 0)
    return -(-n // step) * step


def _held(X):
    """Dense rows as the engine holds them: in two precisions where products are what costs."""
    return TwoPrecisions.of(X) if X.shape[-2] * X.shape[-1] >= MANY_CELLS else X


def cut(table: Table, *, squared: bool, fit_intercept: bool, rotates: bool = True) -> Folds:
    """Choose the representation of the folds: diagonalized, rotated or, for sparse X, as they are.

    Parameters
    ----------
    table : Table
    squared : bool
        Whether inner and outer objective see the rows only through sums of squared errors.
    fit_intercept : bool
    rotates : bool, default=True
        Whether a change of basis does no harm. False where the penalty tells features apart; X is one matrix then.
    """
    stacked = isinstance(table.X, list)
    first = table.X[0] if stacked else table.X
    if scipy.sparse.issparse(first):
        return _sparse(table, fit_intercept)
    if not rotates:
        return _condensed(table, fit_intercept) if squared else _plain(table, fit_intercept)
    if squared and min(first.shape) <= LARGEST_BASIS:
        return diagonalized(table, fit_intercept)
    if stacked and (first.shape[0] < first.shape[1] or not fit_intercept or affine(table.X) is None):
        return _stacked(table, fit_intercept)
    return _shared(table, fit_intercept)


def _common(table: Table) -> dict:
    """The parts that do not depend on the basis: (n_folds, ...) float64."""
    weight = table.test_weight / table.test_weight.sum(axis=1, keepdims=True)
    mean = weight @ table.y
    variance = np.stack([w @ (table.y - m) ** 2 for w, m in zip(weight, mean, strict=True)])
    return {
        "variance": jnp.asarray(variance),
        "offset": jnp.asarray(table.offset),
        "share": jnp.asarray(table.share),
    }


def _pad_rows(array, n):
    return np.concatenate([array, np.zeros((n - array.shape[0], *array.shape[1:]))]) if n > array.shape[0] else array


def _padded_rows(table: Table) -> tuple[int, Any, Any, Any]:
    """The padded number of rows, and y and both weights brought to it, on the device."""
    n = padded(table.y.shape[0])
    train, test = (jnp.asarray(_pad_rows(w.T, n).T) for w in (table.train_weight, table.test_weight))
    return n, jnp.asarray(_pad_rows(table.y, n)), train, test


def _sparse(table: Table, fit_intercept: bool) -> Folds:
    """Sparse rows as they are: centring or rotating would fill them."""
    n, y, train_weight, test_weight = _padded_rows(table)
    stacked = isinstance(table.X, list)
    hosts = [HostMatrix(matrix) for matrix in (table.X if stacked else [table.X])]
    features = max(host.rows.shape[1] for host in hosts)
    X = Sparse.stack(hosts, (n, padded(features)))
    if not stacked:
        X = jax.tree.map(lambda part: part[0], X)
    data = Fold(train=Rows(X, y, train_weight), test=Rows(X, y, test_weight), to_features=None, **_common(table))
    rows = Rows(0 if stacked else None, None, 0)
    axes = Fold(train=rows, test=rows, variance=0, offset=0, to_features=None, share=0)
    restore = Restoration(basis=None, center=np.zeros((1, features)), y_center=np.zeros((1, y.shape[1])))
    return Folds(data, axes, restore, fit_intercept, tuple(hosts))


@compiled
def _stacked_parts(folds):
    """What is the same part of every fold in one array each."""
    return [jnp.stack(part) for part in zip(*folds, strict=True)]


@compiled
def _rotation(X, weight):
    """Tall X (n, p) in an orthonormal basis of its columns, its singular vectors as well as may be, and the basis (p, p).

    The Gram matrix is diagonalised. It squares the condition number, so small singular vectors are mixed among themselves,
    but the basis is orthonormal to rounding, which is all that exactness needs.
    """
    scaled = jnp.sqrt(weight)[:, None] * X
    basis = jnp.linalg.eigh(scaled.T @ scaled)[1]
    return X @ basis, basis


@compiled
def _principal(X):
    """Wide X (n, p) in the basis of its n singular vectors, and (n, n) weights with X.T @ weights that basis."""
    left, d, _ = jnp.linalg.svd(_triangle(X.T).T, full_matrices=False)
    kept = d > max(X.shape) * jnp.finfo(d.dtype).eps * d[0]
    return left * jnp.where(kept, d, 0.0), jnp.where(kept, left / jnp.where(kept, d, 1.0), 0.0)


class Affine(NamedTuple):
    """Folds whose X are one matrix up to a scale and a shift of every column: X_k = X * scale_k + shift_k."""

    X: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


def affine(tables: list[Parts]) -> Affine | None:
    """The common matrix of preprocessing that only centres and scales, or None where it does more.

    Found from the numbers, not from the names of transformers, and accepted when every cell agrees to rounding.
    """
    if len({table.shape for table in tables}) > 1 or not all(table.is_complete for table in tables):
        return None
    n, p = tables[0].shape
    if n > 4 * SAMPLE:
        few = np.arange(0, n, n // SAMPLE)
        sample = [np.empty((len(few), p)) for _ in tables]
        for table, rows in zip(tables, sample, strict=True):
            table.take(few, rows)
        if affine([Parts.of(rows) for rows in sample]) is None:
            return None
    X, columns = tables[0].whole(), np.arange(p)
    top, bottom = _extremes(X)
    lowest = X[bottom, columns]
    span = X[top, columns] - lowest
    varies = span > 0
    scales, shifts = [], []
    for table in tables:
        start = table.cells(bottom, columns)
        scale = np.where(varies, (table.cells(top, columns) - start) / np.where(varies, span, 1.0), 1.0)
        shift = start - scale * lowest
        size = table.largest() + np.abs(shift)
        if not (scale[varies] != 0).all() or not _agree(X, table, scale, shift, 1e-12 * size):
            return None
        scales.append(scale)
        shifts.append(shift)
    return Affine(X, np.stack(scales), np.stack(shifts))


def _extremes(X) -> tuple[np.ndarray, np.ndarray]:
    """Rows where each column is about largest and about smallest: of some rows where that will do, all take long."""
    step = max(len(X) // MANY, 1)
    few, columns = X[::step], np.arange(X.shape[1])
    top, bottom = few.argmax(axis=0), few.argmin(axis=0)
    span, top, bottom = few[top, columns] - few[bottom, columns], top * step, bottom * step
    close = np.flatnonzero(10 * span < X.max(axis=0) - X.min(axis=0))
    top[close], bottom[close] = X[:, close].argmax(axis=0), X[:, close].argmin(axis=0)
    return top, bottom


def _agree(X, image: Parts, scale, shift, tolerance) -> bool:
    """Whether X * scale + shift is `image`, by rows enough to fill a cache."""
    step = max((1 << 15) // X.shape[1], 1)
    for numbers, rows in image.pieces:
        for i in range(0, len(numbers), step):
            difference = X[numbers[i : i + step]]
            difference *= scale
            difference += shift
            difference -= rows[i : i + step]
            if (np.abs(difference, out=difference) > tolerance).any():
                return False
    return True


def _shared(table: Table, fit_intercept: bool) -> Folds:
    """Dense rows held once: centred, rotated, with weights per fold, and with the way back where folds were scaled apart.

    With X_k = X * scale_k + shift_k, the intercept takes the shift up, and coefficients v of X stand for v / scale_k of
    X_k: the penalty is on those.
    """
    relation = affine(table.X) if isinstance(table.X, list) else None
    X = table.X if relation is None else relation.X
    n, y, train_weight, test_weight = _padded_rows(table)
    weight = table.train_weight.sum(axis=0)
    used = ((table.train_weight > 0) | (table.test_weight > 0)).any(axis=0)
    rotated, basis, center = _rotated(X, weight, used, fit_intercept, n)
    scale = np.ones((1, X.shape[1])) if relation is None else relation.scale
    shift = np.zeros((1, X.shape[1])) if relation is None else relation.shift
    bases = [basis] if relation is None else basis / scale[:, :, None]
    to_features = None if relation is None else RowScaled(jnp.asarray(1 / scale), jnp.asarray(basis))
    rotated = _held(rotated)
    data = Fold(
        train=Rows(rotated, y, train_weight),
        test=Rows(rotated, y, test_weight),
        to_features=to_features,
        **_common(table),
    )
    rows = Rows(None, None, 0)
    scales = None if relation is None else RowScaled(0, None)
    axes = Fold(train=rows, test=rows, variance=0, offset=0, to_features=scales, share=0)
    restore = Restoration(basis=bases, center=shift + center * scale, y_center=np.zeros((1, y.shape[1])))
    return Folds(data, axes, restore, fit_intercept)


def _stacked(table: Table, fit_intercept: bool) -> Folds:
    """Dense rows that differ from fold to fold, each fold rotated on its own."""
    n, y, train_weight, test_weight = _padded_rows(table)
    features = max(m.shape[1] for m in table.X)

    def rotated(matrix, train, test):
        wide = np.zeros((matrix.shape[0], features))
        wide[:, : matrix.shape[1]] = matrix.whole()
        return _rotated(wide, train, (train > 0) | (test > 0), fit_intercept, n)

    parts, bases, centers = zip(*map(rotated, table.X, table.train_weight, table.test_weight), strict=True)
    X = _held(jnp.stack(parts))
    data = Fold(train=Rows(X, y, train_weight), test=Rows(X, y, test_weight), to_features=None, **_common(table))
    rows = Rows(0, None, 0)
    axes = Fold(train=rows, test=rows, variance=0, offset=0, to_features=None, share=0)
    restore = Restoration(bases, np.stack(centers), np.zeros((1, y.shape[1])))
    return Folds(data, axes, restore, fit_intercept)


def _rotated(X, weight, used, fit_intercept, n):
    """X centred by its weighted mean (where an intercept takes that up) and rotated, on the device, with basis and mean.

    Rows that are not used, and padding, are zero. A matrix too large to be factorised keeps its own basis.
    """
    features = X.shape[1]
    center = weight @ X / weight.sum() if fit_intercept else np.zeros(features)
    padding = np.zeros((n, padded(features)))
    padding[: len(X), :features] = np.where(used[:, None], X - center, 0.0)
    rows = jnp.asarray(padding)
    if min(X.shape) > LARGEST_BASIS:
        return rows, np.eye(features, padding.shape[1]), center
    if rows.shape[0] < rows.shape[1]:
        rotated, combinations = _principal(rows)
        return rotated, RowCombinations(X, center, np.array(combinations)[: len(X)]), center
    rotated, basis = _rotation(rows, jnp.asarray(_pad_rows(weight, n)))
    return rotated, np.array(basis)[:features], center


def _plain(table: Table, fit_intercept: bool) -> Folds:
    """Dense rows held once in their own features, centred."""
    n, y, train_weight, test_weight = _padded_rows(table)
    weight, features = table.train_weight.sum(axis=0), table.X.shape[1]
    center = weight @ table.X / weight.sum() if fit_intercept else np.zeros(features)
    padding = np.zeros((n, padded(features)))
    padding[: len(table.X), :features] = table.X - center
    X = jnp.asarray(padding)
    data = Fold(train=Rows(X, y, train_weight), test=Rows(X, y, test_weight), to_features=None, **_common(table))
    rows = Rows(None, None, 0)
    axes = Fold(train=rows, test=rows, variance=0, offset=0, to_features=None, share=0)
    return Folds(data, axes, Restoration(None, center[None], np.zeros((1, y.shape[1]))), fit_intercept)


def _condensed(table: Table, fit_intercept: bool) -> Folds:
    """For squared loss: every fold's rows as triangles in the features themselves, without an intercept."""
    features = table.X.shape[1]
    sizes = [padded(max((w > 0).sum(axis=1))) for w in (table.train_weight, table.test_weight)]
    train_rows, test_rows = (np.zeros((size, padded(features))) for size in sizes)
    ones = np.ones(len(table.y))

    def fold(train, test):
        gathered = (
            *_gather(ones, table.X, table.y, train, train_rows),
            *_gather(ones, table.X, table.y, test, test_rows),
        )
        return jax.block_until_ready(_condense(*gathered, fit_intercept=fit_intercept))

    folds = map(fold, table.train_weight, table.test_weight)
    X, y, Z, t, weight, center, y_center = _stacked_parts(list(folds))
    data = Fold(train=Rows(X, y, jnp.ones(X.shape[:2])), test=Rows(Z, t, weight), to_features=None, **_common(table))
    axes = Fold(train=Rows(0, 0, 0), test=Rows(0, 0, 0), variance=0, offset=0, to_features=None, share=0)
    restore = Restoration(None, np.array(center)[:, :features], np.array(y_center))
    return Folds(data, axes, restore, fit_intercept=False)


def diagonalized(table: Table, fit_intercept: bool) -> Folds:
    """Every fold in the basis of its own training rows' singular vectors, for squared loss (see the module)."""
    stacked = isinstance(table.X, list)
    relation = affine(table.X) if stacked else None
    whole = table if relation is None else table._replace(X=relation.X)
    blocks = None if isinstance(whole.X, list) else _blocks(whole)
    if blocks is None:
        ones, X, y = np.ones(len(table.y)), table.X, table.y
        train_weight, test_weight = table.train_weight, table.test_weight
    else:
        ones, X, y, train_weight, test_weight = blocks
        if relation is not None:
            X = [X * s + np.outer(ones, m) for s, m in zip(relation.scale, relation.shift, strict=True)]
    features = max(m.shape[1] for m in X) if stacked else X.shape[1]
    train_size = padded(max((train_weight > 0).sum(axis=1)))
    test_size = padded(max((test_weight > 0).sum(axis=1)))

    # the same memory for every fold: fresh pages cost more than what is done with them
    train_rows = np.zeros((train_size, padded(features)))
    test_rows = np.zeros((test_size, padded(features)))

    def fold(matrix, train, test):
        gathered = (*_gather(ones, matrix, y, train, train_rows), *_gather(ones, matrix, y, test, test_rows))
        return jax.block_until_ready(_diagonalize(*gathered, fit_intercept=fit_intercept))

    folds = map(fold, X if stacked else [X] * len(train_weight), train_weight, test_weight)
    d, c, Z, t, weight, basis, center, y_center = _stacked_parts(list(folds))
    data = Fold(
        train=Rows(Diagonal(d), c, jnp.ones_like(d)), test=Rows(Z, t, weight), to_features=None, **_common(table)
    )
    axes = Fold(train=Rows(0, 0, 0), test=Rows(0, 0, 0), variance=0, offset=0, to_features=None, share=0)
    restore = Restoration(np.array(basis)[:, :features], np.array(center)[:, :features], np.array(y_center))
    return Folds(data, axes, restore, fit_intercept=False)


def _gather(ones, X, y, weight, out):
    """The rows of positive weight as [1 X y], scaled by the square root of their weight, with padding of zeros.

    Those of X are written to `out`.
    """
    index = np.flatnonzero(weight)
    root = np.sqrt(weight[index])[:, None]
    rows = out[: len(index), : X.shape[1]]
    if isinstance(X, Parts):
        X.take(index, rows)
    else:
        np.take(X, index, axis=0, out=rows, mode="clip")
    if (root != 1).any():
        rows *= root
    out[len(index) :] = 0.0
    out[:, X.shape[1] :] = 0.0
    return _pad_rows(root[:, 0] * ones[index], len(out)), out, _pad_rows(root * y[index], len(out))


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
    pattern, group = _alike(weights[:, kept] / base[kept])
    if 2 * pattern.shape[1] * width > len(kept):
        return None
    size, p = padded(np.bincount(group).max()), table.X.shape[1]
    triangles = np.zeros((pattern.shape[1], width, width))
    for g, triangle in enumerate(triangles):
        index = kept[group == g]
        rows = np.empty((len(index), width))
        rows[:, 0], rows[:, 1 : 1 + p], rows[:, 1 + p :] = 1.0, table.X[index], table.y[index]
        root = np.sqrt(base[index])
        if (root != 1).any():
            rows *= root[:, None]
        if len(rows) <= width:
            triangle[: len(rows)] = rows
        else:
            triangle[:] = _condensed_rows(rows, size)
    triangles = triangles.reshape(-1, width)
    train, test = np.split(np.repeat(pattern, width, axis=1), 2)
    return triangles[:, 0], triangles[:, 1 : 1 + table.X.shape[1]], triangles[:, 1 + table.X.shape[1] :], train, test


def _alike(columns):
    """The different columns, and for every column which of them it is."""
    # sorting numbers is faster than sorting columns; what it says is checked
    key = np.random.default_rng(0).normal(size=len(columns)) @ columns
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    pattern = columns[:, first]
    if len(first) < columns.shape[1] // 2 and np.array_equal(pattern[:, group], columns):
        return pattern, group
    pattern, group = np.unique(columns, axis=1, return_inverse=True)
    return pattern, group.ravel()


def _condensed_rows(rows, size: int):
    """The triangle of the QR decomposition of (n, p) rows, n at most `size`.

    Where the columns are far from dependent, by Cholesky decomposition of their products, which is many times faster: what
    it loses is the square of the condition number, in units of rounding. Otherwise by orthogonal transformations.
    """
    products = rows.T @ rows
    scale = np.sqrt(np.diag(products))
    scale[scale == 0] = 1.0
    products /= np.outer(scale, scale)
    values = np.linalg.eigvalsh(products)
    if values[0] > WELL_CONDITIONED * values[-1]:
        return np.linalg.cholesky(products).T * scale
    return _triangle(_pad_rows(rows, size))


@compiled
def _triangle(rows):
    """The triangle of the QR decomposition of (..., n, p) rows; tall ones in blocks, which stay in the cache."""
    n, p = rows.shape[-2:]
    blocks = n // max(4 * p, 1024)
    if blocks > 1:
        size = -(-n // blocks)
        padding = [(0, 0)] * (rows.ndim - 2) + [(0, size * blocks - n), (0, 0)]
        split = jnp.pad(rows, padding).reshape(*rows.shape[:-2], blocks, size, p)
        rows = jnp.linalg.qr(split, mode="r").reshape(*rows.shape[:-2], blocks * p, p)
    return jnp.linalg.qr(rows, mode="r")


@compiled(static_argnames="fit_intercept")
def _diagonalize(ones, X, y, test_ones, test_X, test_y, *, fit_intercept):
    """One fold: (d, c) of the training rows, the held-out rows in the same basis, and the way back.

    All rows come scaled by the square root of their weight; `ones` is the column that an intercept multiplies. With
    X_c = X - ones center = U d V^T and y_c likewise, the fit minimises |d u - U^T y_c|**2 + alpha |u|**2, coef = V u.
    """
    X, y, test_X, test_y, center, y_center = _centred(ones, X, y, test_ones, test_X, test_y, fit_intercept)
    n, p = X.shape
    if n >= p:
        triangle = _triangle(jnp.concatenate([X, y], axis=1))
        left, d, right = jnp.linalg.svd(triangle[:p, :p], full_matrices=False)
        c, basis = left.T @ triangle[:p, p:], right.T
    else:
        q, r = jnp.linalg.qr(X.T)
        left, d, right = jnp.linalg.svd(r.T, full_matrices=False)
        c, basis = left.T @ y, q @ right.T
    return d, c, *_held_out(test_X @ basis, test_y, test_ones @ test_ones), basis, center, y_center


@compiled(static_argnames="fit_intercept")
def _condense(ones, X, y, test_ones, test_X, test_y, *, fit_intercept):
    """As `_diagonalize`, in the features: (X, y) of the training rows, the held-out rows, and the way back."""
    X, y, test_X, test_y, center, y_center = _centred(ones, X, y, test_ones, test_X, test_y, fit_intercept)
    p = X.shape[1]
    if X.shape[0] > p + y.shape[1]:
        triangle = _triangle(jnp.concatenate([X, y], axis=1))
        X, y = triangle[:, :p], triangle[:, p:]
    return X, y, *_held_out(test_X, test_y, test_ones @ test_ones), center, y_center


def _centred(ones, X, y, test_ones, test_X, test_y, fit_intercept):
    """The rows without the training rows' mean, and that mean: what an intercept does."""
    if not fit_intercept:
        return X, y, test_X, test_y, jnp.zeros(X.shape[1]), jnp.zeros(y.shape[1])
    center, y_center = (ones @ X) / (ones @ ones), (ones @ y) / (ones @ ones)
    return (
        X - jnp.outer(ones, center),
        y - jnp.outer(ones, y_center),
        test_X - jnp.outer(test_ones, center),
        test_y - jnp.outer(test_ones, y_center),
        center,
        y_center,
    )


def _held_out(X, y, total):
    """Held-out rows whose weighted mean of squares is what it was, of `total` weight: no more of them than columns."""
    held = jnp.concatenate([X, y], axis=1)
    if held.shape[0] > held.shape[1]:
        held = _triangle(held)
    rows = held.shape[0]
    # equal weights that sum to the fold's total
    held = held * jnp.sqrt(rows / total)
    return held[:, : -y.shape[1]], held[:, -y.shape[1] :], jnp.full(rows, total / rows)
