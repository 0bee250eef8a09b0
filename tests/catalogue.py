"""Every component of the package beside a problem whose answer is known; `test_catalogue.py` keeps the lists complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skhypergrad.bilevel import (
    HOAG,
    LBFGS,
    LBFGSB,
    Adam,
    ClosedForm,
    ConjugateGradient,
    Direct,
    FirstOrder,
    FixedPoint,
    Forward,
    GradientDescent,
    Implicit,
    Momentum,
    Nesterov,
    Neumann,
    Newton,
    NormalConjugateGradient,
    Optax,
    Preconditioner,
    Problem,
    RealTime,
    Reverse,
    Several,
    Sweep,
    criteria,
    losses,
)

LOSSES = [losses.squared, losses.logistic, losses.multinomial]
CRITERIA = [
    criteria.squared_error,
    criteria.root_squared_error,
    criteria.r2,
    criteria.log_loss,
    criteria.brier,
]
LINEAR_SOLVERS = [Direct(), ConjugateGradient()]
# exact where the preconditioner is the inverse of the Hessian, with tests of their own
SOLVERS_BY_THE_INVERSE, LINEAR_SOLVERS_BY_THE_INVERSE = [ClosedForm()], [Preconditioner()]
# for well-conditioned matrices, the last up to a largest eigenvalue of 10
SLOW_LINEAR_SOLVERS = [NormalConjugateGradient(), Neumann(), FixedPoint(0.15)]
SOLVERS = [Newton(), Newton(Direct()), LBFGS()]
# as functions of a learning rate and a second rate, for `Reverse` and `Forward`
UNROLLABLE = {
    "gradient descent": lambda a, b: GradientDescent(a),
    "heavy ball": lambda a, b: Momentum(a, b),
    "Nesterov": lambda a, b: Nesterov(a, b),
    "Adam": lambda a, b: Adam(a, b1=b, b2=0.9 + 0.1 * b),
    "optax": lambda a, b: Optax(optax.chain(optax.trace(b), optax.scale(-a))),
}
UNROLLED = [Reverse, Forward]
HYPERGRADIENTS = [
    Implicit(),
    Implicit(Newton(Direct()), linear_solver=Direct()),
    Implicit(LBFGS(), max_steps=1000),
    Implicit(tol=1e-10, linear_solver=NormalConjugateGradient()),
    Implicit(tol=1e-10, linear_solver=Neumann(max_steps=5000)),
]
# hypergradients made of others, with tests of their own
COMPOSED = [Several(Implicit())]
OPTIMIZERS = [
    LBFGSB(),
    LBFGSB(n_starts=1, n_descents=1),
    HOAG(),
    HOAG("quadratic"),
    HOAG("cubic"),
    HOAG("exact"),
    FirstOrder(optax.adam(0.3)),
    FirstOrder(optax.sgd(0.1, momentum=0.5)),
]
# optimizers that look and do not descend, or follow one training only, with tests of their own
LOOKING = [Sweep(), RealTime()]


def name(component) -> str:
    """A short test id."""
    return getattr(component, "__name__", None) or getattr(component, "name", None) or repr(component)


@dataclass(frozen=True)
class Known:
    """A problem with hyperparameters, data and the closed form of its solution, value and gradient."""

    name: str
    problem: Problem
    hyper: dict
    data: Any
    params: np.ndarray
    value: float
    gradient: dict


def _ridge_inner(w, hyper, data):
    X, y, _, _ = data
    return jnp.sum((X @ w - y) ** 2) / 2 + hyper["alpha"] * jnp.sum(w**2) / 2


def _held_out(w, hyper, data):
    _, _, X, y = data
    return jnp.mean((X @ w - y) ** 2)


def _zeros(hyper, data):
    return jnp.zeros(data[0].shape[1])


def _held_out_with_price(w, hyper, data):
    """Explicit dependence on the hyperparameter, to be added to the implicit one."""
    return _held_out(w, hyper, data) + 0.1 * hyper["alpha"] ** 2


def _ridge(name, n, p, alpha, explicit=False) -> Known:
    """Ridge and its derivative from the SVD of X, in float64 NumPy."""
    rng = np.random.default_rng(n + p)
    X, Xv = rng.normal(size=(n, p)), rng.normal(size=(n, p))
    w = rng.normal(size=p)
    y, yv = X @ w + rng.normal(size=n), Xv @ w + rng.normal(size=n)
    U, d, Vt = np.linalg.svd(X, full_matrices=False)
    coef = Vt.T @ (d / (d**2 + alpha) * (U.T @ y))
    slope = -Vt.T @ ((Vt @ coef) / (d**2 + alpha))
    residual = Xv @ coef - yv
    value, gradient = np.mean(residual**2), 2 * residual @ (Xv @ slope) / n
    if explicit:
        value, gradient = value + 0.1 * alpha**2, gradient + 0.2 * alpha
    outer = _held_out_with_price if explicit else _held_out
    problem = Problem(_ridge_inner, outer, _zeros)
    return Known(name, problem, {"alpha": alpha}, (X, y, Xv, yv), coef, value, {"alpha": gradient})


PROBLEMS = [
    _ridge("long ridge", 30, 6, 0.7),
    _ridge("wide ridge", 8, 20, 0.3),
    _ridge("ridge with a price on alpha", 30, 6, 0.7, explicit=True),
]


@dataclass(frozen=True)
class Adapted:
    """An estimator of the registry with its hyperparameter, a target, and a solver tight enough to be an oracle."""

    name: str
    estimator: Any
    hyper: dict
    target: str
    sparse_solver: dict


ADAPTED = [
    Adapted("Ridge", Ridge(solver="svd"), {"alpha": 2.0}, "continuous", {"solver": "sparse_cg", "tol": 1e-13}),
    Adapted(
        "Ridge, several targets",
        Ridge(solver="svd"),
        {"alpha": 0.5},
        "continuous-multioutput",
        {"solver": "sparse_cg", "tol": 1e-13},
    ),
    Adapted(
        "Ridge, alpha per target",
        Ridge(solver="svd"),
        {"alpha": np.array([0.1, 3.0])},
        "continuous-multioutput",
        {"solver": "sparse_cg", "tol": 1e-13},
    ),
    Adapted(
        "RidgeClassifier",
        RidgeClassifier(solver="svd"),
        {"alpha": 2.0},
        "binary",
        {"solver": "sparse_cg", "tol": 1e-13},
    ),
    Adapted(
        "RidgeClassifier, three classes, balanced",
        RidgeClassifier(solver="svd", class_weight="balanced"),
        {"alpha": 2.0},
        "multiclass",
        {"solver": "sparse_cg", "tol": 1e-13},
    ),
    Adapted(
        "LogisticRegression, binary",
        LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000),
        {"C": 0.3},
        "binary",
        {},
    ),
    Adapted(
        "LogisticRegression, balanced",
        LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000, class_weight="balanced"),
        {"C": 3.0},
        "binary",
        {},
    ),
    Adapted(
        "LogisticRegression, three classes",
        LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000, class_weight={0: 2.0, 1: 1.0, 2: 0.5}),
        {"C": 0.3},
        "multiclass",
        {},
    ),
]


# Networks that the search trains: small, smooth, and some of them end before their last epoch. Those with random_state=3 are
# meant for three classes or two targets.
NETWORKS = [
    MLPClassifier((4,), "tanh", max_iter=12, learning_rate_init=0.01, batch_size=16, random_state=0),
    MLPClassifier(
        (4, 3), "logistic", max_iter=60, tol=0.05, n_iter_no_change=2, learning_rate_init=0.01, random_state=3
    ),
    MLPClassifier((), solver="sgd", max_iter=30, batch_size=7, shuffle=False, random_state=3),
    MLPRegressor(
        hidden_layer_sizes=(4,),
        activation="tanh",
        solver="sgd",
        max_iter=60,
        tol=0.02,
        n_iter_no_change=1,
        learning_rate_init=0.01,
        random_state=3,
    ),
    MLPRegressor(
        hidden_layer_sizes=(4,),
        activation="tanh",
        solver="sgd",
        nesterovs_momentum=False,
        max_iter=10,
        batch_size=20,
        random_state=0,
    ),
]
