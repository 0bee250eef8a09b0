"""MLPClassifier and MLPRegressor, trained by mini-batches as scikit-learn trains them.

    sum_batch s_i loss_i / sum_batch s_i + alpha sum_l |coef_l|**2 / (2 sum_batch s_i)

with the log loss, or half the squared error summed over the targets.
"""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from skhypergrad.adapters._compat import validate_params
from skhypergrad.adapters.base import NetworkAdapter, Target, register
from skhypergrad.adapters.linear_model import REGRESSION
from skhypergrad.bilevel import losses
from skhypergrad.exceptions import NotTunableError

ALWAYS = {"alpha": "loguniform(1e-6, 1e1)", "learning_rate_init": "loguniform(1e-4, 1e-1)"}
RATES = {
    "adam": {"beta_1": "uniform(0, 0.99)", "beta_2": "uniform(0.9, 0.099)"},
    "sgd": {"momentum": "uniform(0, 0.99)"},
}
FIXED = (*ALWAYS, "beta_1", "beta_2", "epsilon", "momentum", "tol", "n_iter_no_change", "max_iter")


def _check(estimator) -> None:
    """Refuse the trainings that the engine does not know."""
    validate_params(estimator)
    name = type(estimator).__name__
    refused = {
        "solver": (estimator.solver == "lbfgs", "solver='adam' or 'sgd'"),
        "early_stopping": (estimator.early_stopping, "early_stopping=False"),
        "learning_rate": (
            estimator.solver == "sgd" and estimator.learning_rate != "constant",
            "learning_rate='constant'",
        ),
        "loss": (getattr(estimator, "loss", None) == "poisson", "loss='squared_error'"),
    }
    for parameter, (is_refused, remedy) in refused.items():
        if is_refused:
            raise NotTunableError(
                f"{name}({parameter}={getattr(estimator, parameter)!r}) cannot be tuned continuously: the search does not "
                f"model this training. Use {remedy}, or a list of values."
            )


def _adapter(estimator, **known) -> NetworkAdapter:
    _check(estimator)
    descent = "nesterov" if estimator.nesterovs_momentum else "momentum"
    return NetworkAdapter(
        tunable=ALWAYS | RATES[estimator.solver],
        rule="adam" if estimator.solver == "adam" else descent,
        fixed={name: float(getattr(estimator, name)) for name in FIXED} | {"init_scale": 1.0},
        **known,
    )


def _write(estimator, layers, activation):
    estimator.coefs_ = [np.array(coef) for coef, _ in layers]
    estimator.intercepts_ = [np.array(intercept) for _, intercept in layers]
    estimator.n_layers_, estimator.n_outputs_ = len(layers) + 1, len(estimator.intercepts_[-1])
    estimator.out_activation_ = activation


@register(MLPRegressor)
def mlp_regressor(estimator: MLPRegressor) -> NetworkAdapter:
    """`alpha`, `learning_rate_init` and the rates of the solver; one target or several."""

    def encode(y):
        y = np.asarray(y, float)
        return Target(y.reshape(len(y), -1), losses.squared)

    def write(estimator, layers, target, y):
        _write(estimator, layers, "identity")

    return _adapter(estimator, criteria=REGRESSION, encode=encode, write=write)


@register(MLPClassifier)
def mlp_classifier(estimator: MLPClassifier) -> NetworkAdapter:
    """`alpha`, `learning_rate_init` and the rates of the solver; two classes or several."""
    binarizer = LabelBinarizer()

    def encode(y):
        check_classification_targets(y)
        if type_of_target(y) not in ("binary", "multiclass"):
            raise NotTunableError(
                "MLPClassifier can be tuned continuously for one label a row, not for several: use a list of values."
            )
        labels = binarizer.fit_transform(np.ravel(y)).astype(float)
        if len(binarizer.classes_) < 2:
            raise ValueError(
                "MLPClassifier needs samples of at least 2 classes in the data, but the data contains only one class: "
                f"{binarizer.classes_[0]!r}"
            )
        several = len(binarizer.classes_) > 2
        return Target(labels, losses.multinomial if several else losses.logistic, binarizer.classes_)

    def write(estimator, layers, target, y):
        _write(estimator, layers, "softmax" if len(target.classes) > 2 else "logistic")
        estimator._label_binarizer, estimator.classes_ = binarizer, target.classes

    return _adapter(estimator, criteria=("log_loss", "brier"), encode=encode, write=write)
