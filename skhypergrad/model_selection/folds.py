"""The winner on every fold: its estimators, and their predictions of the rows they have not seen."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils import _safe_indexing

from skhypergrad.adapters._compat import check_method_params, num_samples


def fitted_on(estimator, params, X, y, splits, fit_params) -> list:
    """Clones of an estimator with these parameters, one fitted on each split's training rows."""
    fitted = []
    for train, _ in splits:
        one = clone(estimator).set_params(**clone(params, safe=False))
        rows = check_method_params(X, fit_params, indices=train)
        one.fit(_safe_indexing(X, train), *(() if y is None else (_safe_indexing(y, train),)), **rows)
        fitted.append(one)
    return fitted


def out_of_fold(estimators, X, splits) -> np.ndarray:
    """Predictions of every row by the estimators that have not seen it.

    Parameters
    ----------
    estimators : list of fitted estimators, one a split
    X : as given to fit
    splits : list of (train, test) row numbers

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Probabilities where the estimators have them, else decision values, else predictions. Of a row in several test sets
        the mean where that is a number, and the last where it is a label; NaN, or None, of a row in no test set.
    """
    for name in ("predict_proba", "decision_function", "predict"):
        if not hasattr(estimators[0], name):
            continue
        parts = [
            getattr(estimator, name)(_safe_indexing(X, test))
            for estimator, (_, test) in zip(estimators, splits, strict=True)
        ]
        # several outputs have a list of tables, and folds without a class have fewer columns
        if name == "predict" or len({np.shape(part)[1:] for part in parts if not isinstance(part, list)}) == 1:
            break
    shape = (num_samples(X), *np.shape(parts[0])[1:])
    if name == "predict" and is_classifier(estimators[0]):
        labels = np.full(shape, None, dtype=object)
        for part, (_, test) in zip(parts, splits, strict=True):
            labels[test] = part
        return labels
    total, count = np.zeros(shape), np.zeros(shape)
    for part, (_, test) in zip(parts, splits, strict=True):
        np.add.at(total, test, part)
        np.add.at(count, test, 1.0)
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
