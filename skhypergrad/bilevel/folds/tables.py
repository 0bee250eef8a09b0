"""Tables that folds are cut from: one for all, one that every fold centres and scales its own way, or one for each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# Rows that tell at little cost when folds are not affine images of each other.
SAMPLE = 64
MANY = 1024


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

    def take(self, index) -> np.ndarray:
        """A copy of the rows of `index`."""
        for numbers, rows in self.pieces:
            if np.array_equal(numbers, index):
                return np.array(rows, dtype=float)
        piece, place = self._places()
        out = np.zeros((len(index), self.shape[1]))
        for i, (_, rows) in enumerate(self.pieces):
            here = np.flatnonzero(piece[index] == i)
            out[here] = rows[place[index[here]]]
        return out

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


class Affine(NamedTuple):
    """Folds whose X are one matrix up to a scale and a shift of every column: X_k = X * scale_k + shift_k.

    Attributes
    ----------
    X : (n_samples, n_features)
    scale, shift : (n_folds, n_features); no scale is zero
    """

    X: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    @property
    def shape(self):
        return self.X.shape


class Rescaled(NamedTuple):
    """Folds whose X are one sparse matrix up to factors of its rows and columns: X_k = diag(rows_k) matrix diag(columns_k).

    Attributes
    ----------
    matrix : (n_samples, n_features) SciPy CSR
    rows, columns : (n_folds, n_samples), (n_folds, n_features)
    """

    matrix: Any
    rows: np.ndarray
    columns: np.ndarray

    @property
    def shape(self):
        return self.matrix.shape

    def fold(self, k: int, index):
        """Rows of X_k, sparse."""
        part = self.matrix[index].copy()
        part.data *= self.columns[k][part.indices] * np.repeat(self.rows[k][index], np.diff(part.indptr))
        return part


class Table(NamedTuple):
    """What the folds are cut from.

    Attributes
    ----------
    X : (n_samples, n_features) array or SciPy CSR matrix, `Affine`, `Rescaled`, or a list of `Parts` or CSR, one per fold
        The last three where preprocessing was fitted on each fold's own training rows; rows are aligned with `y`.
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


def affine(tables: list[Parts]) -> Affine | None:
    """The common matrix of preprocessing that only centres and scales, or None where it does more.

    Found from the numbers, not from the names of transformers, and accepted when every cell agrees to rounding.
    """
    if len({table.shape for table in tables}) > 1 or not all(table.is_complete for table in tables):
        return None
    n, p = tables[0].shape
    if n > 4 * SAMPLE:
        few = np.arange(0, n, n // SAMPLE)
        if affine([Parts.of(table.take(few)) for table in tables]) is None:
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
