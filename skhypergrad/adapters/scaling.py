"""Preprocessing that only centres and scales: fitted on every fold from the statistics of its parts, and never applied.

    x' = scale * x + shift      n, mean, variance, least and largest value of a fold's rows, from those of groups of rows

Rows that are training rows of the same splits are a group; under K-fold there are K of them, and every split's scaler is
known after one pass over the table. What the scaler makes of the rows goes into the engine as two numbers for each column,
so that there are no copies of the table, one for each split. Merging variances: Chan, Golub & LeVeque (1983).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from sklearn.utils import _safe_indexing

from skhypergrad.adapters._compat import scale_of_standard_deviation, without_zeros
from skhypergrad.adapters.pipeline import Preprocessed, last_step, only_steps, recorded
from skhypergrad.bilevel.folds import Affine
from skhypergrad.bilevel.matrices import in_threads

# Groups of rows up to which their statistics are worth keeping: as many as 8 splits of any kind can make.
GROUPS = 256


class Statistics(NamedTuple):
    """Of the columns of some rows: their number, and (n_features,) mean, variance, least and largest value."""

    n: int
    mean: np.ndarray
    variance: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, rows) -> Statistics:
        low, high, mean = rows.min(axis=0), rows.max(axis=0), rows.mean(axis=0)
        rows = rows - mean
        # the second term is rounding, of the mean
        variance = np.einsum("ij,ij->j", rows, rows) / len(rows) - rows.mean(axis=0) ** 2
        return cls._exactly(len(rows), mean, variance, low, high)

    @classmethod
    def _exactly(cls, n, mean, variance, low, high) -> Statistics:
        # what rounding makes of a constant must not be taken for its scale
        constant = low == high
        return cls(n, np.where(constant, low, mean), np.where(constant, 0.0, variance), low, high)

    @classmethod
    def merged(cls, parts: list[Statistics]) -> Statistics:
        n = sum(part.n for part in parts)
        mean = np.sum([part.n * part.mean for part in parts], axis=0) / n
        squares = np.sum([part.n * (part.variance + (part.mean - mean) ** 2) for part in parts], axis=0)
        low = np.min([part.low for part in parts], axis=0)
        high = np.max([part.high for part in parts], axis=0)
        return cls._exactly(n, mean, squares / n, low, high)

    def through(self, scale, shift) -> Statistics:
        """Those of `scale * x + shift`, for a positive scale."""
        mean, low, high = (scale * column + shift for column in (self.mean, self.low, self.high))
        return self._exactly(self.n, mean, scale**2 * self.variance, low, high)


def _standard(scaler: StandardScaler, rows: Statistics):
    # an int or a float, as it comes
    state: dict = {"n_samples_seen_": type(scaler.n_samples_seen_)(rows.n)}
    scale, shift = np.ones(len(rows.mean)), np.zeros(len(rows.mean))
    if scaler.with_mean or scaler.with_std:
        state["mean_"] = rows.mean
    if scaler.with_std:
        state |= {"var_": rows.variance, "scale_": scale_of_standard_deviation(rows.variance, rows.mean, rows.n)}
        scale = 1 / state["scale_"]
    if scaler.with_mean:
        shift = -rows.mean * scale
    return state, scale, shift


def _min_max(scaler: MinMaxScaler, rows: Statistics):
    least, largest = scaler.feature_range
    span = rows.high - rows.low
    scale = (largest - least) / without_zeros(span)
    shift = least - rows.low * scale
    state = {
        "n_samples_seen_": rows.n,
        "data_min_": rows.low,
        "data_max_": rows.high,
        "data_range_": span,
        "scale_": scale,
        "min_": shift,
    }
    return state, scale, shift


def _max_abs(scaler: MaxAbsScaler, rows: Statistics):
    largest = np.maximum(np.abs(rows.low), np.abs(rows.high))
    scale = without_zeros(largest)
    return {"n_samples_seen_": rows.n, "max_abs_": largest, "scale_": scale}, 1 / scale, np.zeros(len(scale))


# From a scaler that is fitted on a few rows, and the statistics of all, to its fitted attributes, scale and shift.
SCALERS: dict[type, Callable] = {StandardScaler: _standard, MinMaxScaler: _min_max, MaxAbsScaler: _max_abs}


class Scaled(NamedTuple):
    """The folds of a pipeline of scalers: one table with every split's scale and shift.

    Attributes
    ----------
    table : Affine
    folds : list of Preprocessed, one a split; of the rows they have a few only, as the last step sees them
    """

    table: Affine
    folds: list[Preprocessed]

    def rows(self, k: int, index):
        """What split k makes of the rows of that index."""
        return self.table.X[index] * self.table.scale[k] + self.table.shift[k]


def scaled(estimator, X, y, splits, fit_params) -> Scaled | None:
    """A pipeline whose steps before the last only centre and scale, fitted on the training rows of every split.

    None where it does anything else, or is given anything but plain rows of finite numbers: then it has to be run.
    """
    if not _only_scales(estimator) or any(value is not None for value in fit_params.values()):
        return None
    table = _numbers(X)
    groups = None if table is None else _groups(splits, len(table))
    if table is None or groups is None:
        return None
    # what is not finite is refused by name, later
    with np.errstate(invalid="ignore", over="ignore"):
        parts = in_threads(lambda rows: Statistics.of(table[rows]), [rows for rows, _ in groups])
    if not all(np.isfinite(part.variance).all() for part in parts):
        return None
    statistics = [
        Statistics.merged([part for part, (_, members) in zip(parts, groups, strict=True) if k in members])
        for k in range(len(splits))
    ]
    # on a few rows, which checks the steps' parameters and makes their attributes; then every split has the right numbers
    few = splits[0][0][:2]
    fitted = recorded(estimator).fit(_safe_indexing(X, few), None if y is None else _safe_indexing(y, few))
    folds, scales, shifts = zip(*(_fold(fitted, rows) for rows in statistics), strict=True)
    return Scaled(Affine(table, np.stack(scales), np.stack(shifts)), list(folds))


def _only_scales(estimator) -> bool:
    kinds = [type(step) for _, step in getattr(estimator, "steps", [])[:-1] if step not in (None, "passthrough")]
    if not kinds or not set(kinds) <= SCALERS.keys() or not only_steps(estimator, kinds):
        return False
    return not any(getattr(step, "clip", False) for _, step in estimator.steps)


def _numbers(X) -> np.ndarray | None:
    """Rows of numbers in double precision; None for anything else."""
    if hasattr(X, "columns") and hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if not isinstance(X, np.ndarray) or X.ndim != 2 or 0 in X.shape:
        return None
    if X.dtype != np.float64 and X.dtype.kind not in "iu":
        return None
    return np.ascontiguousarray(X, dtype=float)


def _groups(splits, n: int) -> list[tuple[np.ndarray, set[int]]] | None:
    """Rows that are training rows of the same splits, with their numbers; None for too many, or repeated rows."""
    code, members = np.zeros(n, np.int64), []
    for train, _ in splits:
        count = np.zeros(n, np.int64)
        np.add.at(count, train, 1)
        _, code = np.unique(2 * code + count, return_inverse=True)
        if count.max() > 1 or code.max() >= GROUPS:
            return None
        members.append(count > 0)
    found = []
    for group in range(code.max() + 1):
        rows = np.flatnonzero(code == group)
        found.append((rows, {k for k, member in enumerate(members) if member[rows[0]]}))
    return [(rows, numbers) for rows, numbers in found if numbers]


def _fold(fitted, rows: Statistics) -> tuple[Preprocessed, np.ndarray, np.ndarray]:
    """A copy of a fitted pipeline that has seen these rows, with what it made of a few others; its scale and shift."""
    pipeline = copy.copy(fitted)
    pipeline.steps = [(name, copy.copy(step)) for name, step in fitted.steps]
    scale, shift = np.ones(len(rows.mean)), np.zeros(len(rows.mean))
    for _, step in pipeline.steps[:-1]:
        if type(step) in SCALERS:
            state, own_scale, own_shift = SCALERS[type(step)](step, rows)
            vars(step).update(state)
            scale, shift = own_scale * scale, own_scale * shift + own_shift
            rows = rows.through(own_scale, own_shift)
    recorder = last_step(pipeline)[1]
    fold = Preprocessed(recorder.X_, None, recorder.fit_params_, pipeline)
    del recorder.X_, recorder.fit_params_
    return fold, scale, shift
