"""Texts are vectorised once: what a fold's vectoriser makes of them differs from all rows' by factors of rows and columns.

    x'_ij = row_i x_ij column_j         column = idf of the fold / idf of all, 0 for a word that the fold does not know
                                        row    = what the fold's norm of a text makes of it

The words of all rows are counted by the pipeline's own vectoriser, fitted on them. A fold's vocabulary is what occurs in its
training rows, and so are its document frequencies: nothing of the held-out rows reaches it.
"""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import numpy as np
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.pipeline import Pipeline

from skhypergrad.adapters.pipeline import Preprocessed, Recalled, last_step, only_steps, recorded
from skhypergrad.bilevel.folds import Rescaled

# The steps that are understood, before the last.
KINDS: list[list[type]] = [[TfidfVectorizer], [CountVectorizer], [CountVectorizer, TfidfTransformer]]

# Splits up to which a number for every word and split is little beside the table.
SPLITS = 64


class Vectorized(NamedTuple):
    """The folds of a text pipeline: one table with every split's factors.

    Attributes
    ----------
    table : Rescaled
    folds : list of Preprocessed, one a split; a few rows of the table, and a fitted pipeline for the split of all rows only
    """

    table: Rescaled
    folds: list[Preprocessed]

    def rows(self, k: int, index):
        """What split k makes of the rows of that index; words that it does not know are columns of zeros."""
        return self.table.fold(k, index)

    def on_test_rows(self, k: int, index, estimator):
        """A pipeline with this last step, to be asked of these rows and of nothing else."""
        return Pipeline([("preprocessing", Recalled(self.rows(k, index))), ("estimator", estimator)])


def vectorized(estimator, X, y, splits, fit_params) -> Vectorized | None:
    """The folds of a pipeline that vectorises texts by words that are counted, and does nothing else.

    None where it does anything else, or where a fold's vocabulary is not a part of that of all rows: then it has to be run.
    """
    if len(splits) > SPLITS or any(value is not None for value in fit_params.values()):
        return None
    if not any(only_steps(estimator, kinds) for kinds in KINDS) or not _keeps_parts(estimator.steps[0][1]):
        return None
    everything = recorded(estimator).fit(X, y)
    recorder = last_step(everything)[1]
    matrix, fit_params = scipy.sparse.csr_array(recorder.X_, dtype=np.float64), recorder.fit_params_
    del recorder.X_, recorder.fit_params_
    member = np.zeros((len(splits), matrix.shape[0]))
    for row, (train, _) in zip(member, splits, strict=True):
        np.add.at(row, train, 1.0)
    factors = None if member.max() > 1 else _factors(everything, matrix, member)
    if factors is None:
        return None
    few = matrix[:2]
    folds = [
        Preprocessed(few, None, fit_params, everything if in_fold.all() else None) for in_fold in member.astype(bool)
    ]
    return Vectorized(Rescaled(matrix, *factors), folds)


def _keeps_parts(vectorizer) -> bool:
    """Whether the vocabulary of some texts is that of all, as far as it occurs in them often enough."""
    whole = isinstance(vectorizer.min_df, Integral) and vectorizer.max_df == 1.0 and vectorizer.max_features is None
    return whole and not isinstance(vectorizer.max_df, Integral)


def _factors(pipeline, matrix, member) -> tuple[np.ndarray, np.ndarray] | None:
    """(n_splits, n_texts) and (n_splits, n_words) from the fitted pipeline; None where a split's vocabulary is empty."""
    words, weighting = pipeline.steps[0][1], pipeline.steps[-2][1]
    occurs = scipy.sparse.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    frequency = (occurs.T @ member.T).T
    known = np.full(frequency.shape, True) if words.fixed_vocabulary_ else frequency >= words.min_df
    if not known.any(axis=1).all():
        return None
    columns = known.astype(float)
    if isinstance(weighting, CountVectorizer) and not isinstance(weighting, TfidfVectorizer):
        return np.ones(member.shape), columns
    if weighting.use_idf:
        smooth = float(weighting.smooth_idf)
        with np.errstate(divide="ignore"):
            inverse = np.log((member.sum(axis=1)[:, None] + smooth) / (frequency + smooth)) + 1.0
        columns = np.where(known, inverse / weighting.idf_, 0.0)
        if not np.isfinite(columns).all():
            return None
    if weighting.norm is None:
        return np.ones(member.shape), columns
    length = abs(matrix) @ columns.T if weighting.norm == "l1" else np.sqrt(matrix.power(2) @ columns.T**2)
    return np.where(length > 0, 1 / np.where(length > 0, length, 1.0), 1.0).T, columns
