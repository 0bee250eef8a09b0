"""Tune scikit-learn estimators by hypergradients: the derivative of the cross-validated loss.

>>> from scipy.stats import loguniform
>>> from sklearn.datasets import load_diabetes
>>> from sklearn.linear_model import Ridge
>>> from skhypergrad import HypergradSearchCV
>>> X, y = load_diabetes(return_X_y=True)
>>> search = HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-4, 1e4)}).fit(X, y)
>>> print(f"alpha = {search.best_params_['alpha']:.4f}, R2 = {search.best_score_:.4f}")
alpha = 0.0004, R2 = 0.4823
"""

__version__ = "0.1.0"

_HOMES = {
    "BilevelLogisticRegression": "skhypergrad.linear_model",
    "BilevelMLPClassifier": "skhypergrad.neural_network",
    "BilevelMLPRegressor": "skhypergrad.neural_network",
    "BilevelRidge": "skhypergrad.linear_model",
    "BoundaryWarning": "skhypergrad.exceptions",
    "ContourDisplay": "skhypergrad.display",
    "ConvergenceDisplay": "skhypergrad.display",
    "HypergradSearchCV": "skhypergrad.model_selection",
    "MLflowCallback": "skhypergrad.tracking",
    "NotTunableError": "skhypergrad.exceptions",
    "PathDisplay": "skhypergrad.display",
    "Real": "skhypergrad.bilevel.space",
    "SensitivityDisplay": "skhypergrad.display",
    "enable_compile_cache": "skhypergrad.bilevel.compile_cache",
    "one_standard_error": "skhypergrad.model_selection",
    "register": "skhypergrad.adapters",
    "to_optuna_study": "skhypergrad.tracking",
}

__all__ = [
    "BilevelLogisticRegression",
    "BilevelMLPClassifier",
    "BilevelMLPRegressor",
    "BilevelRidge",
    "BoundaryWarning",
    "ContourDisplay",
    "ConvergenceDisplay",
    "HypergradSearchCV",
    "MLflowCallback",
    "NotTunableError",
    "PathDisplay",
    "Real",
    "SensitivityDisplay",
    "enable_compile_cache",
    "one_standard_error",
    "register",
    "to_optuna_study",
]


def __getattr__(name):
    # loaded on first use, so that importing the package does not import JAX
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in (
        "adapters",
        "bilevel",
        "display",
        "exceptions",
        "linear_model",
        "model_selection",
        "neural_network",
        "tracking",
    ):
        return importlib.import_module(f"skhypergrad.{name}")
    raise AttributeError(f"module 'skhypergrad' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_HOMES])
