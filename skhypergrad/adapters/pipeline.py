"""What the last step of a pipeline sees: preprocessing fitted on each fold's training rows, and nowhere else.

The pipeline runs as it is, with its last estimator replaced by one that keeps what it is given. So caching, passthrough,
nested pipelines, fit parameters and metadata routing are scikit-learn's own doing, and nothing leaks.
"""

from __future__ import annotations

import copy
import time
from typing import Any, NamedTuple

from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.parallel import Parallel, delayed

from skhypergrad.adapters._compat import check_method_params, num_samples

# Seconds of preprocessing below which handing the folds to other processes costs more than it saves.
WORTH_PROCESSES = 5.0


class Preprocessed(NamedTuple):
    """One fold as the last estimator sees it.

    Attributes
    ----------
    X_train, X_test : arrays or sparse matrices, row-aligned with the split's indices; of rows that are not transformed, a
        few and None
    fit_params : dict, what the pipeline hands to the last estimator's fit
    pipeline : the fitted pipeline, its last estimator a recorder; None without a pipeline
    """

    X_train: Any
    X_test: Any
    fit_params: dict
    pipeline: Any


class _Recorder(BaseEstimator):
    """Stands in for `estimator` at the end of a pipeline and keeps what its fit is given."""

    def __init__(self, estimator=None):
        self.estimator = estimator

    def fit(self, X, y=None, **fit_params):
        self.X_, self.fit_params_ = X, fit_params
        return self

    def get_metadata_routing(self):
        return get_routing_for_object(self.estimator)

    def __sklearn_tags__(self):
        return self.estimator.__sklearn_tags__()


def last_step(estimator) -> tuple[str, Any]:
    """(prefix, estimator) of the last step of nested pipelines; ("", estimator) outside of a pipeline."""
    prefix = ""
    while type(estimator) is Pipeline and estimator.steps:
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return prefix, estimator


def only_steps(estimator, kinds: list[type]) -> bool:
    """Whether a pipeline's steps before the last are of just these types, in this order, and nothing is asked for besides."""
    if type(estimator) is not Pipeline or estimator.memory is not None or estimator.transform_input is not None:
        return False
    *steps, (_, last) = estimator.steps
    steps = [step for _, step in steps if step not in (None, "passthrough")]
    plain = all(not hasattr(step, "_sklearn_output_config") for step in steps)
    return plain and type(last) is not Pipeline and list(map(type, steps)) == kinds


def recorded(estimator):
    """A clone of a pipeline, with a recorder in its last estimator's place."""
    prefix, last = last_step(estimator)
    return clone(estimator).set_params(**{prefix.removesuffix("__"): _Recorder(last)})


def preprocess(estimator, X, y, splits, fit_params, n_jobs) -> list[Preprocessed]:
    """Fit the preprocessing of a pipeline on every fold's training rows and apply it to both parts.

    Parameters
    ----------
    estimator : Pipeline
    X, y : as given to fit
    splits : list of (train, test) index arrays
    fit_params : dict, split by rows where they have as many
    n_jobs : int or None, folds at a time
    """
    recording = recorded(estimator)
    # the first fold tells whether processes would earn their start-up
    (train, test), *rest = splits
    began = time.perf_counter()
    first = _preprocess_fold(clone(recording), X, y, train, test, fit_params)
    if (time.perf_counter() - began) * len(rest) < WORTH_PROCESSES:
        n_jobs = None
    others = Parallel(n_jobs=n_jobs)(
        delayed(_preprocess_fold)(clone(recording), X, y, train, test, fit_params) for train, test in rest
    )
    return [first, *others]


def _preprocess_fold(pipeline, X, y, train, test, fit_params) -> Preprocessed:
    rows = check_method_params(X, fit_params, indices=train)
    pipeline.fit(_safe_indexing(X, train), None if y is None else _safe_indexing(y, train), **rows)
    recorder = last_step(pipeline)[1]
    X_test = _transform(pipeline, _safe_indexing(X, test))
    kept = Preprocessed(recorder.X_, X_test, recorder.fit_params_, pipeline)
    del recorder.X_, recorder.fit_params_
    return kept


def _transform(pipeline, X):
    while type(pipeline) is Pipeline:
        if len(pipeline.steps) > 1:
            X = pipeline[:-1].transform(X)
        pipeline = pipeline.steps[-1][1]
    return X


def completed(pipeline, estimator):
    """A copy of the fitted (and possibly nested) pipeline with a fitted last estimator in the recorder's place."""
    if type(pipeline) is not Pipeline:
        return estimator
    whole = copy.copy(pipeline)
    name, last = pipeline.steps[-1]
    whole.steps = [*pipeline.steps[:-1], (name, completed(last, estimator))]
    return whole


class Recalled(BaseEstimator):
    """The steps before the last one, for the test rows of one fold: what has been made of them already.

    Parameters
    ----------
    rows : the rows as the last step sees them
    """

    def __init__(self, rows):
        self.rows = rows

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        if num_samples(X) != num_samples(self.rows):
            raise AssertionError(f"{num_samples(self.rows)} rows were transformed, and {num_samples(X)} are asked for.")
        return self.rows

    def __sklearn_is_fitted__(self):
        return True


def on_test_rows(fold: Preprocessed, estimator):
    """The pipeline with a fitted last estimator, to be asked of the fold's test rows and of nothing else."""
    if fold.pipeline is None:
        return estimator
    return Pipeline([("preprocessing", Recalled(fold.X_test)), ("estimator", estimator)])
