"""For squared loss: every fold's rows are condensed, so that the number of samples disappears.

The held-out rows become the triangle of their QR decomposition; the training rows one too, or a diagonal matrix in the
basis of their own singular vectors. Before that, rows that are in the same folds are condensed once for all folds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from skhypergrad.bilevel.folds.data import Fold, Folds, Restoration, RowCombinations, Rows, common, fit_into, padded
from skhypergrad.bilevel.folds.factors import axes_of_columns, axes_of_rows, products_of_rows, triangle
from skhypergrad.bilevel.folds.tables import Affine, Table
from skhypergrad.bilevel.matrices import Diagonal, in_threads


class Source(NamedTuple):
    """Where the rows of every fold come from: [ones, X, y] minus ones * [0, origin, y_origin].

    Attributes
    ----------
    ones : (n_rows,) the column that an intercept multiplies
    X : (n_rows, n_features) array, or a list of `Parts`
    y : (n_rows, n_outputs)
    train_weight, test_weight : (n_folds, n_rows)
    origin, y_origin : (n_features,), (n_outputs,) subtracted from X and y already
    scale, shift : (n_folds, n_features) or None; what every fold's preprocessing makes of X is X * scale + shift
    """

    ones: np.ndarray
    X: Any
    y: np.ndarray
    train_weight: np.ndarray
    test_weight: np.ndarray
    origin: Any = 0.0
    y_origin: Any = 0.0
    scale: Any = None
    shift: Any = None

    @classmethod
    def of(cls, table: Table) -> Source:
        X, ones = table.X, np.ones(len(table.y))
        if not isinstance(X, Affine):
            return cls(ones, X, table.y, table.train_weight, table.test_weight)
        return cls(ones, X.X, table.y, table.train_weight, table.test_weight, scale=X.scale, shift=X.shift)

    def condensed(self) -> Source:
        """Rows that always travel together replaced by the triangle of their QR decomposition.

        Two rows travel together when their weights, relative to each other, agree in every fold: under K-fold there are K
        groups. An orthogonal transformation of a group changes no sum of squares, so its n rows become p + outputs + 1.
        The same where that would not at least halve the rows.
        """
        if isinstance(self.X, list):
            return self
        weights = np.concatenate([self.train_weight, self.test_weight])
        base = weights.max(axis=0)
        kept = np.flatnonzero(base > 0)
        p = self.X.shape[1]
        width = p + self.y.shape[1] + 1
        if len(weights) > 64 or 2 * width > len(kept):
            return self
        pattern, group = _alike(weights[:, kept] / base[kept])
        if 2 * pattern.shape[1] * width > len(kept):
            return self
        # around their means, columns are far from dependent on the intercept's
        origin, y_origin = _mean(self.X, base), _mean(self.y, base)

        def condense(g):
            index = kept[group == g]
            rows = np.empty((len(index), width))
            rows[:, 0] = 1.0
            np.subtract(self.X[index], origin, out=rows[:, 1 : 1 + p])
            np.subtract(self.y[index], y_origin, out=rows[:, 1 + p :])
            root = np.sqrt(base[index])
            if (root != 1).any():
                rows *= root[:, None]
            return triangle(rows)

        triangles = in_threads(condense, range(pattern.shape[1]))
        rows = np.concatenate(triangles)
        train, test = np.split(np.repeat(pattern, [len(t) for t in triangles], axis=1), 2)
        return self._replace(
            ones=rows[:, 0],
            X=rows[:, 1 : 1 + p],
            y=rows[:, 1 + p :],
            train_weight=train,
            test_weight=test,
            origin=origin,
            y_origin=y_origin,
        )

    def fold(self, k: int, fit_intercept: bool) -> Centred:
        """The rows of fold k, with what an intercept takes up."""
        train, test = self._rows(k, self.train_weight[k]), self._rows(k, self.test_weight[k])
        scale, shift = (1.0, 0.0) if self.scale is None else (self.scale[k], self.shift[k])
        if fit_intercept:
            total = train.ones @ train.ones
            center, y_center = (train.ones @ train.X) / total, (train.ones @ train.y) / total
        else:
            # what preprocessing makes zero of
            center = np.full(train.X.shape[1], -shift / scale - self.origin)
            y_center = np.zeros(train.y.shape[1]) - self.y_origin
        for ones, X, y in (train, test):
            if center.any():
                X -= center if (ones == 1).all() else np.outer(ones, center)
            if self.scale is not None:
                X *= scale
            y -= np.outer(ones, y_center)
        return Centred(train, test, (center + self.origin) * scale + shift, y_center + self.y_origin)

    def _rows(self, k: int, weight) -> Part:
        index = np.flatnonzero(weight)
        root = np.sqrt(weight[index])[:, None]
        X = self.X[k].take(index) if isinstance(self.X, list) else self.X[index]
        if (root != 1).any():
            X *= root
        return Part(root[:, 0] * self.ones[index], X, root * self.y[index])

    def n_features(self) -> int:
        return max(m.shape[1] for m in self.X) if isinstance(self.X, list) else self.X.shape[1]

    def has_few_rows(self, k: int) -> bool:
        """Whether fold k trains on fewer rows than there are features, as they were given."""
        return np.ndim(self.origin) == 0 and bool(np.count_nonzero(self.train_weight[k]) < self.n_features())


class Part(NamedTuple):
    """Rows scaled by the square root of their weight: (n,) what an intercept multiplies, X and y; copies."""

    ones: np.ndarray
    X: np.ndarray
    y: np.ndarray


class Centred(NamedTuple):
    """One fold's training and held-out rows, centred and scaled.

    Attributes
    ----------
    train, test : Part
    center, y_center : (n_features,), (n_outputs,) what an intercept takes up, in the features after preprocessing
    """

    train: Part
    test: Part
    center: np.ndarray
    y_center: np.ndarray


def _held_out(ones, X, y) -> Part:
    """Held-out rows with the same weighted means of squares: no more rows than columns, equal weights."""
    total, features = ones @ ones, X.shape[1]
    rows = triangle(np.concatenate([X, y], axis=1))
    rows = rows * np.sqrt(len(rows) / total)
    return Part(np.full(len(rows), total / len(rows)), rows[:, :features], rows[:, features:])


def diagonalized(table: Table, fit_intercept: bool) -> Folds:
    """Every fold in the basis of its own training rows' singular vectors."""
    source = Source.of(table).condensed()

    def fold(k):
        if source.has_few_rows(k):
            return _few_rows(source, k, fit_intercept)
        rows = source.fold(k, fit_intercept)
        d, c, basis = axes_of_columns(rows.train.X, rows.train.y)
        held = _held_out(rows.test.ones, rows.test.X @ basis, rows.test.y)
        return d, c, basis, held, rows.center, rows.y_center

    folds = in_threads(fold, range(len(table.share)))
    axes, targets, bases, held, centers, y_centers = zip(*folds, strict=True)
    directions, outputs = padded(max(map(len, axes))), table.y.shape[1]
    d = np.stack([fit_into(part, directions) for part in axes])
    c = np.stack([fit_into(part, directions, outputs) for part in targets])
    train, test = Rows(Diagonal(d), c, np.ones(d.shape)), _test_rows(held, directions)
    center = np.stack([fit_into(part, source.n_features()) for part in centers])
    restore = Restoration(bases, center, np.stack(y_centers))
    return Folds(Fold(train=train, test=test, to_features=None, **common(table)), _apart(), restore, False)


def _few_rows(source: Source, k: int, fit_intercept: bool):
    """Fold k where there are fewer rows than features: all it takes are the products of the rows with each other."""
    X = source.X[k].whole() if isinstance(source.X, list) else source.X
    weight, test_weight = source.train_weight[k], source.test_weight[k]
    scale, shift = (np.ones(X.shape[1]), 0.0) if source.scale is None else (source.scale[k], source.shift[k])
    # what an intercept takes up, or what preprocessing makes zero of
    center = weight @ X / weight.sum() if fit_intercept else -shift / scale
    y_center = weight @ source.y / weight.sum() if fit_intercept else np.zeros(source.y.shape[1])
    products = products_of_rows(X, center, None if source.scale is None else scale)
    root, y = np.sqrt(weight), source.y - y_center
    train, test = np.flatnonzero(weight), np.flatnonzero(test_weight)

    def rows():
        return root[train, None] * (X[train] - center) * scale

    own = root[train, None] * products[np.ix_(train, train)] * root[train]
    d, left = axes_of_rows(own, rows, root[train] if fit_intercept else None)
    weights = np.zeros((len(X), len(d)))
    weights[train] = root[train, None] * left / d
    c = (root[train, None] * left).T @ y[train]
    ones = np.sqrt(test_weight[test])
    held = _held_out(ones, ones[:, None] * (products[test] @ weights), ones[:, None] * y[test])
    basis = RowCombinations(X, source.ones, center, scale, weights)
    return d, c, basis, held, center * scale + shift, y_center


def condensed(table: Table, fit_intercept: bool) -> Folds:
    """Every fold's rows as triangles in the features themselves, without an intercept."""
    source = Source.of(table)

    def fold(k):
        rows = source.fold(k, fit_intercept)
        train = triangle(np.concatenate([rows.train.X, rows.train.y], axis=1))
        return train, _held_out(rows.test.ones, rows.test.X, rows.test.y), rows.center, rows.y_center

    train_rows, held, centers, y_centers = zip(*in_threads(fold, range(len(table.share))), strict=True)
    features, outputs = table.X.shape[1], table.y.shape[1]
    size, width = padded(max(map(len, train_rows))), padded(features)
    X = np.stack([fit_into(rows[:, :features], size, width) for rows in train_rows])
    y = np.stack([fit_into(rows[:, features:], size, outputs) for rows in train_rows])
    train = Rows(X, y, np.ones(X.shape[:2]))
    data = Fold(train=train, test=_test_rows(held, width), to_features=None, **common(table))
    return Folds(data, _apart(), Restoration(None, np.stack(centers), np.stack(y_centers)), fit_intercept=False)


def _apart() -> Fold:
    """Axes of data that are every fold's own."""
    return Fold(train=Rows(0, 0, 0), test=Rows(0, 0, 0), variance=0, offset=0, to_features=None, share=0)


def _test_rows(held: Iterable[Part], width: int) -> Rows:
    weights, X, y = zip(*held, strict=True)
    size, outputs = padded(max(map(len, X))), y[0].shape[1]
    return Rows(
        np.stack([fit_into(part, size, width) for part in X]),
        np.stack([fit_into(part, size, outputs) for part in y]),
        np.stack([fit_into(part, size) for part in weights]),
    )


def _mean(rows, weight):
    # what is in rows without weight may be anything
    used = slice(None) if weight.all() else weight > 0
    return weight[used] @ rows[used] / weight.sum()


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
