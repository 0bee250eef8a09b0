"""Every private name of scikit-learn that the package uses, in one place; `tests/test_compat.py` is its contract."""

from __future__ import annotations

from sklearn.metrics._scorer import _BaseScorer, _PassthroughScorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.preprocessing._data import _handle_zeros_in_scale, _is_constant_feature
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_method_params, _check_sample_weight, _num_samples

SearchBase = BaseSearchCV
check_method_params = _check_method_params
check_sample_weight = _check_sample_weight
num_samples = _num_samples


def validate_params(estimator) -> None:
    """The estimator's own check of its parameters, which its `fit` begins with."""
    estimator._validate_params()


def scorer_parts(scorer):
    """(metric, sign, keyword arguments) of a scorer made by scikit-learn; None for any other callable."""
    if isinstance(scorer, _BaseScorer):
        return scorer._score_func, scorer._sign, scorer._kwargs
    return None


def without_zeros(scale):
    """What scalers divide by: 1 where a feature is constant."""
    return _handle_zeros_in_scale(scale, copy=True)


def scale_of_standard_deviation(variance, mean, n_samples):
    """What `StandardScaler` divides by."""
    constant = _is_constant_feature(variance, mean, n_samples)
    return _handle_zeros_in_scale(variance**0.5, copy=False, constant_mask=constant)


def is_default_scorer(scorer) -> bool:
    """Whether the scorer is the estimator's own `score`."""
    return isinstance(scorer, _PassthroughScorer)


def asks_predictions_only(scorer) -> bool:
    """Whether the scorer looks at predictions alone: made by scikit-learn, or the estimator's own `score`."""
    return scorer_parts(scorer) is not None or is_default_scorer(scorer)


def individual_scorers(scorer) -> dict:
    """The scorers of a multimetric scorer by name; of a single one under the name "score"."""
    return dict(getattr(scorer, "_scorers", {"score": scorer}))


__all__ = [
    "Interval",
    "SearchBase",
    "StrOptions",
    "asks_predictions_only",
    "check_matplotlib_support",
    "check_method_params",
    "check_sample_weight",
    "individual_scorers",
    "is_default_scorer",
    "num_samples",
    "scale_of_standard_deviation",
    "scorer_parts",
    "validate_params",
    "without_zeros",
]
