"""Hypergradients are the closed form, finite differences and mpmath's; their evidence is honest."""

import catalogue
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from skhypergrad.adapters import lookup
from skhypergrad.adapters.linear_task import LinearTask
from skhypergrad.adapters.task import Routed
from skhypergrad.bilevel import Implicit, Newton, Problem, value_and_hypergrad
from skhypergrad.bilevel.tune import _start, _step

EVERY = pytest.mark.parametrize("method", catalogue.HYPERGRADIENTS, ids=lambda m: type(m.solver).__name__)
KNOWN = pytest.mark.parametrize("known", catalogue.PROBLEMS, ids=catalogue.name)


@EVERY
@KNOWN
def test_value_and_gradient_are_the_closed_form(method, known):
    with jax.enable_x64(True):
        value, gradient = value_and_hypergrad(known.problem, method)(known.hyper, known.data)
    assert float(value) == pytest.approx(known.value, rel=1e-7)
    assert float(gradient["alpha"]) == pytest.approx(known.gradient["alpha"], rel=1e-5)


@EVERY
def test_the_solution_is_stationary_and_one_more_step_stays(method):
    known = catalogue.PROBLEMS[0]
    with jax.enable_x64(True):
        hyper = {"alpha": jnp.asarray(known.hyper["alpha"])}
        data = jax.tree.map(jnp.asarray, known.data)
        state = method.solver.init(known.problem, hyper, data, jnp.asarray(known.params))
        moved = method.solver.step(known.problem, hyper, data, state)
        np.testing.assert_allclose(method.solver.params(moved), known.params, atol=1e-10)


@EVERY
def test_tasks_are_averaged_and_each_is_solved_as_if_alone(method):
    known = catalogue.PROBLEMS[0]
    stacked = jax.tree.map(lambda x: np.stack([x, 2 * x + 0.1, x[::-1]]), known.data)
    with jax.enable_x64(True):
        together = value_and_hypergrad(known.problem, method, task_axes=(0, 0, 0, 0))(known.hyper, stacked)
        alone = [
            value_and_hypergrad(known.problem, method)(known.hyper, jax.tree.map(lambda x, k=k: x[k], stacked))
            for k in range(3)
        ]
    assert float(together[0]) == pytest.approx(np.mean([float(v) for v, _ in alone]), rel=1e-9)
    assert float(together[1]["alpha"]) == pytest.approx(np.mean([float(g["alpha"]) for _, g in alone]), rel=1e-6)


@EVERY
def test_a_kept_carry_costs_fewer_steps(method):
    known = catalogue.PROBLEMS[1]
    with jax.enable_x64(True):
        hyper, data = {"alpha": jnp.asarray(0.3)}, jax.tree.map(jnp.asarray, known.data)
        carry = _start(known.problem, None, method, hyper, data)
        _, _, cold = _step(known.problem, None, method, hyper, data, carry, 1e-10)
        _, _, warm = _step(known.problem, None, method, {"alpha": jnp.asarray(0.3001)}, data, cold, 1e-10)
    spent = [int(c.evidence.inner_steps) + int(c.evidence.linear_steps) for c in (cold, warm)]
    assert spent[1] <= spent[0]


def test_the_evidence_is_what_it_says():
    known = catalogue.PROBLEMS[0]
    X, y, _, _ = known.data
    with jax.enable_x64(True):
        method = Implicit(Newton(), tol=1e-4)
        hyper, data = {"alpha": jnp.asarray(0.7)}, jax.tree.map(jnp.asarray, known.data)
        carry = _start(known.problem, None, method, hyper, data)
        _, _, carry = _step(known.problem, None, method, hyper, data, carry, 1e-4)
    w = np.array(carry.params)
    gradient = X.T @ (X @ w - y) + 0.7 * w
    objective = np.sum((X @ w - y) ** 2) / 2 + 0.7 * np.sum(w**2) / 2
    residual = np.linalg.norm(gradient) / min(np.linalg.norm(X.T @ y), np.sqrt(2 * objective))
    assert float(carry.evidence.inner_residual) == pytest.approx(residual, rel=1e-6)


def test_the_value_is_accurate_to_second_order():
    """The adjoint tells what an unfinished inner solve does to the value."""
    known = catalogue.PROBLEMS[0]
    with jax.enable_x64(True):
        hyper, data = {"alpha": jnp.asarray(0.7)}, jax.tree.map(jnp.asarray, known.data)
        method = Implicit(catalogue.LBFGS(), linear_solver=catalogue.Direct())
        carry = _start(known.problem, None, method, hyper, data)
        errors = []
        for steps in (6, 8):
            unfinished = Implicit(catalogue.LBFGS(), tol=1e-15, max_steps=steps, linear_solver=catalogue.Direct())
            value, _, after = _step(known.problem, None, unfinished, hyper, data, carry, 1e-15)
            plain = float(known.problem.outer(after.params, hyper, data))
            errors.append((abs(float(value) - known.value), abs(plain - known.value)))
    for corrected, plain in errors:
        assert corrected < plain / 100


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("known", catalogue.PROBLEMS[:2], ids=catalogue.name)
def test_the_reported_residuals_bound_the_error(known, tol):
    """Pedregosa (2016), theorem 1, with its constants: |H^-1| once for the weights, and twice for the adjoint."""
    X, y, Xv, yv = known.data
    alpha = known.hyper["alpha"]
    with jax.enable_x64(True):
        hyper, data = {"alpha": jnp.asarray(alpha)}, jax.tree.map(jnp.asarray, known.data)
        method = Implicit(catalogue.LBFGS(), linear_solver=catalogue.ConjugateGradient())
        carry = _start(known.problem, None, method, hyper, data)
        _, gradient, carry = _step(known.problem, None, method, hyper, data, carry, tol)
    w, q, evidence = np.array(carry.params), np.array(carry.adjoint), carry.evidence
    smallest = np.linalg.eigvalsh(X.T @ X)[0] + alpha
    objective = np.sum((X @ w - y) ** 2) / 2 + alpha * np.sum(w**2) / 2
    left = float(evidence.inner_residual) * min(np.linalg.norm(X.T @ y), np.sqrt(2 * objective))
    unsolved = float(evidence.linear_residual) * np.linalg.norm(2 * Xv.T @ (Xv @ w - yv)) / len(yv)
    of_weights = left / smallest
    of_adjoint = (unsolved + 2 * np.linalg.norm(Xv, 2) ** 2 / len(yv) * of_weights) / smallest
    bound = of_weights * np.linalg.norm(q) + np.linalg.norm(known.params) * of_adjoint
    error = abs(float(gradient["alpha"]) - known.gradient["alpha"])
    assert error <= bound + 1e-13
    # and it tells something
    assert bound <= 2e3 * tol**0.75 * abs(known.gradient["alpha"]) + 1e-13


def test_too_few_inner_steps_are_not_trusted():
    known = catalogue.PROBLEMS[0]
    method = Implicit(catalogue.LBFGS(), max_steps=2)
    with jax.enable_x64(True):
        hyper, data = {"alpha": jnp.asarray(0.7)}, jax.tree.map(jnp.asarray, known.data)
        carry = _start(known.problem, None, method, hyper, data)
        _, _, carry = _step(known.problem, None, method, hyper, data, carry, 1e-10)
    assert int(carry.evidence.inner_steps) == 2
    assert not method.trusts(jax.device_get(carry.evidence))


def test_nan_is_not_trusted():
    evidence = catalogue.Implicit().init(
        Problem(lambda w, h, d: jnp.nan * w**2, lambda w, h, d: w, lambda h, d: jnp.ones(())), {}, None
    )
    method = Implicit()
    assert not method.trusts(evidence.evidence._replace(inner_residual=jnp.nan))
    assert not method.trusts(evidence.evidence._replace(linear_residual=jnp.nan))


@EVERY
def test_a_hyperparameter_that_nothing_sees_is_an_error(method):
    known = catalogue.PROBLEMS[0]
    with pytest.raises(ValueError, match="learning_rate"):
        value_and_hypergrad(known.problem, method)({**known.hyper, "learning_rate": 0.1}, known.data)


def exact(array):
    return mp.matrix(np.asarray(array, float).tolist())


def ridge_truth(X, y, Xv, yv, alpha):
    """d E / d log alpha with E the mean squared error, and its scale alpha |w| |q|, in 60 digits."""
    with mp.workdps(60):
        X, y, Xv, yv, a = exact(X), exact(y), exact(Xv), exact(yv), mp.mpf(float(alpha))
        H = X.T * X + a * mp.eye(X.cols)
        w = mp.lu_solve(H, X.T * y)
        q = mp.lu_solve(H, 2 * Xv.T * (Xv * w - yv) / Xv.rows)
        return -a * (q.T * w)[0], a * mp.norm(w) * mp.norm(q)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("condition", [1e0, 1e4, 1e8, 1e12])
def test_ridge_against_mpmath_up_to_condition_1e12(condition, seed):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(seed)
    n, p = 20, 5
    U, _ = np.linalg.qr(rng.normal(size=(n, p)))
    V, _ = np.linalg.qr(rng.normal(size=(p, p)))
    X = U * np.sqrt(np.geomspace(condition, 1, p)) @ V.T
    y = X @ rng.normal(size=p) + 0.1 * rng.normal(size=n)
    Xv = rng.normal(size=(n, p))
    yv = Xv @ rng.normal(size=p)
    # the penalty is far below the smallest eigenvalue: the condition of the regularised problem is that of X^T X
    alpha = 1e-3
    estimator = Ridge(fit_intercept=False)
    split = [(np.arange(n), np.arange(n, 2 * n))]
    task = LinearTask(estimator, lookup(estimator), np.vstack([X, Xv]), np.r_[y, yv], split, 1, Routed({}, {}), None)
    cut = task.cut("squared_error")
    with jax.enable_x64(True):
        method, hyper = Implicit(tol=1e-13), {"alpha": jnp.asarray(alpha)}
        carry = _start(cut.problem, cut.axes, method, hyper, cut.data)
        _, gradient, _ = _step(cut.problem, cut.axes, method, hyper, cut.data, carry, 1e-13)
    truth, scale = ridge_truth(X, y, Xv, yv, alpha)
    error = abs(mp.mpf(float(gradient["alpha"]) * alpha) - truth) / max(abs(truth), mp.mpf("1e-3") * scale)
    assert float(error) <= max(1e-12, 500 * np.sqrt(condition) * np.finfo(float).eps)


def test_products_are_counted():
    # one coordinate: every system is solved by one product
    problem = Problem(
        inner=lambda w, hyper, data: jnp.sum(jnp.cosh(w - data)) + hyper["alpha"] * jnp.sum(w**2) / 2,
        outer=lambda w, hyper, data: jnp.sum((w - 1.0) ** 2),
        init=lambda hyper, data: 0.0 * data,
    )
    with jax.enable_x64(True):
        method, hyper, data = Implicit(tol=1e-10), {"alpha": jnp.asarray(1.0)}, jnp.asarray([3.0])
        carry = _start(problem, None, method, hyper, data)
        _, _, carry = _step(problem, None, method, hyper, data, carry, 1e-10)
    evidence = carry.evidence
    assert int(evidence.linear_steps) == 1
    assert int(evidence.products) == int(evidence.inner_steps) + 1
