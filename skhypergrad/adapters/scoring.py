"""From scorers to differentiable criteria."""

from __future__ import annotations

from sklearn import metrics
from sklearn.base import ClassifierMixin

from skhypergrad.adapters._compat import is_default_scorer, scorer_parts
from skhypergrad.bilevel import criteria

CRITERIA = {
    "log_loss": criteria.log_loss,
    "brier": criteria.brier,
    "squared_error": criteria.squared_error,
    "root_squared_error": criteria.root_squared_error,
    "r2": criteria.r2,
}

# scorers whose value is minus the criterion, fold by fold
METRICS = {
    metrics.log_loss: "log_loss",
    metrics.brier_score_loss: "brier",
    metrics.mean_squared_error: "squared_error",
    metrics.root_mean_squared_error: "root_squared_error",
    metrics.r2_score: "r2",
}


def criterion_of(scorer, adapter) -> str | None:
    """The criterion that a scorer is (up to its sign), or None when it is not differentiable or not known.

    Parameters
    ----------
    scorer : callable, as `sklearn.metrics.check_scoring` returns it
    adapter : Adapter
    """
    if not adapter.criteria_are_scores:
        return None
    if is_default_scorer(scorer):
        return "r2" if "r2" in adapter.criteria else None
    parts = scorer_parts(scorer)
    if parts is None:
        return None
    metric, sign, arguments = parts
    name = METRICS.get(metric)
    # a metric with arguments of its own, or one that is to be minimised where it is a score, is something else
    expected_sign = 1 if name == "r2" else -1
    return name if name in adapter.criteria and not arguments and sign == expected_sign else None


def is_accuracy(scorer, estimator) -> bool:
    """Whether the scorer is the share of right predictions, by name or as the estimator's own `score`."""
    if is_default_scorer(scorer):
        return getattr(type(estimator), "score", None) is ClassifierMixin.score
    return scorer_parts(scorer) == (metrics.accuracy_score, 1, {})


def check_criterion(name: str, adapter, estimator) -> str:
    """`name` if the criterion exists and makes sense for the estimator; ValueError that lists those that do."""
    if name not in adapter.criteria:
        raise ValueError(
            f"criterion={name!r} is not one that {type(estimator).__name__} can be tuned by; "
            f"choose from {list(adapter.criteria)}."
        )
    return name
