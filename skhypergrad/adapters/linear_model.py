"""Ridge, RidgeClassifier and LogisticRegression, each with scikit-learn's own scaling of its penalty.

    Ridge, RidgeClassifier    sum_i s_i |y_i - raw_i|**2 + alpha |coef|**2          strength = alpha
    LogisticRegression        C sum_i s_i loss_i + |coef|**2 / 2                    strength = 1 / C

Both are the engine's `LinearModel` up to a constant factor; neither strength changes with the number of rows.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skhypergrad.adapters.base import Adapter, Target, register
from skhypergrad.bilevel import losses
from skhypergrad.exceptions import NotTunableError

REGRESSION = ("squared_error", "root_squared_error", "r2")


def _alpha(hyper):
    return hyper["alpha"]


def _inverse_c(hyper):
    return 1 / hyper["C"]


def _ones(y, sample_weight):
    return np.ones(len(y)) if sample_weight is None else sample_weight


def _refuse_positive(estimator):
    if estimator.positive:
        name = type(estimator).__name__
        raise NotTunableError(
            f"{name}(positive=True) cannot be tuned continuously: its solution is not differentiable where a coefficient "
            "meets zero. Use positive=False, or a list of values."
        )


def _check_logistic(estimator):
    """Refuse the objectives of LogisticRegression that are not log loss plus an L2 penalty on the coefficients."""
    l2 = estimator.penalty in ("deprecated", "l2") and estimator.l1_ratio in (0, None)
    if not l2:
        raise NotTunableError(
            "LogisticRegression can be tuned continuously with its L2 penalty only, got "
            f"penalty={estimator.penalty!r}, l1_ratio={estimator.l1_ratio!r}. Use l1_ratio=0, or a list of values."
        )
    if estimator.solver == "liblinear" and estimator.fit_intercept:
        raise NotTunableError(
            "LogisticRegression(solver='liblinear') penalises the intercept, which the search does not model. "
            "Use solver='lbfgs' or 'newton-cholesky', or a list of values."
        )


@register(Ridge)
def ridge(estimator: Ridge) -> Adapter:
    """`alpha`, one for all targets or one per target (`Real(..., shape=(n_targets,))`)."""
    _refuse_positive(estimator)

    def encode(y):
        y = np.asarray(y, float)
        return Target(y.reshape(len(y), -1), losses.squared)

    def write(estimator, coef, intercept, target, y):
        flat = np.ndim(y) == 1
        estimator.coef_ = coef[:, 0] if flat else coef.T
        estimator.intercept_ = intercept[0] if flat else intercept
        estimator.n_iter_, estimator.solver_ = None, "svd"

    return Adapter(
        tunable={"alpha": "loguniform(1e-4, 1e4)"},
        strength=_alpha,
        fit_intercept=estimator.fit_intercept,
        criteria=REGRESSION,
        encode=encode,
        train_weight=_ones,
        write=write,
    )


@register(RidgeClassifier)
def ridge_classifier(estimator: RidgeClassifier) -> Adapter:
    """`alpha`; the classes become -1/+1 targets, one column per class where there are more than two."""
    _refuse_positive(estimator)
    binarizer = LabelBinarizer(pos_label=1, neg_label=-1)

    def encode(y):
        check_classification_targets(y)
        return Target(binarizer.fit_transform(y).astype(float), losses.squared, binarizer.classes_)

    def train_weight(y, sample_weight):
        weight = _ones(y, sample_weight)
        return weight * compute_sample_weight(estimator.class_weight, y) if estimator.class_weight else weight

    def write(estimator, coef, intercept, target, y):
        estimator.coef_, estimator.intercept_ = coef.T, intercept
        estimator.n_iter_, estimator.solver_ = None, "svd"
        estimator._label_binarizer = binarizer
        estimator.classes_ = target.classes

    return Adapter(
        tunable={"alpha": "loguniform(1e-4, 1e4)"},
        strength=_alpha,
        fit_intercept=estimator.fit_intercept,
        criteria=("squared_error", "root_squared_error"),
        criteria_are_scores=False,
        encode=encode,
        train_weight=train_weight,
        write=write,
    )


@register(LogisticRegression)
def logistic_regression(estimator: LogisticRegression) -> Adapter:
    """`C`; binary or multinomial, with any of the smooth solvers' objectives (they share one)."""
    _check_logistic(estimator)

    def encode(y):
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        classes, code = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                "LogisticRegression needs samples of at least 2 classes in the data, but the data contains only one "
                f"class: {classes[0]!r}"
            )
        if len(classes) == 2:
            return Target(code[:, None].astype(float), losses.logistic, classes)
        return Target(np.eye(len(classes))[code], losses.multinomial, classes)

    def train_weight(y, sample_weight):
        weight = _ones(y, sample_weight)
        if estimator.class_weight is None:
            return weight
        classes, code = np.unique(y, return_inverse=True)
        per_class = compute_class_weight(estimator.class_weight, classes=classes, y=y, sample_weight=sample_weight)
        return weight * per_class[code]

    def write(estimator, coef, intercept, target, y):
        # shifting all classes alike changes no probability; scikit-learn's solvers keep the sum at zero
        estimator.coef_ = coef.T
        estimator.intercept_ = intercept - intercept.mean() if len(target.classes) > 2 else intercept
        estimator.classes_ = target.classes
        estimator.n_iter_ = np.array([0], dtype=np.int32)

    return Adapter(
        tunable={"C": "loguniform(1e-4, 1e4)"},
        strength=_inverse_c,
        fit_intercept=estimator.fit_intercept,
        criteria=("log_loss", "brier"),
        encode=encode,
        train_weight=train_weight,
        write=write,
    )
