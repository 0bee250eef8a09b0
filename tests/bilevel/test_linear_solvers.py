"""Linear solvers solve, say how well, and admit it when they do not."""

import catalogue
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skhypergrad.bilevel import (
    ClosedForm,
    ConjugateGradient,
    Direct,
    FixedPoint,
    Implicit,
    Neumann,
    NormalConjugateGradient,
    Preconditioner,
    Problem,
    Reverse,
    value_and_hypergrad,
)
from skhypergrad.bilevel.problem import Operator

EVERY = pytest.mark.parametrize("solver", catalogue.LINEAR_SOLVERS, ids=catalogue.name)


EVERY_ONE = pytest.mark.parametrize(
    "solver", catalogue.LINEAR_SOLVERS + catalogue.SLOW_LINEAR_SOLVERS, ids=catalogue.name
)


def system(rng, condition, n=12):
    q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    matrix = q * np.geomspace(1, condition, n) @ q.T
    return matrix, rng.normal(size=n)


def operator(matrix, precondition=lambda v: v):
    return Operator(lambda v: matrix @ v, precondition)


def solve(solver, matrix, b, tol=1e-12, x0=None, precondition=lambda v: v, rough=None):
    with jax.enable_x64(True):
        b = jnp.asarray(b)
        x0 = None if x0 is None else jnp.asarray(x0)
        rough = None if rough is None else operator(jnp.asarray(rough, jnp.float32))
        return jax.tree.map(np.array, solver.solve(operator(jnp.asarray(matrix), precondition), b, x0, tol, rough))


@EVERY
@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8])
def test_solution_and_reported_residual(solver, condition, rng):
    matrix, b = system(rng, condition)
    found = solve(solver, matrix, b)
    true = np.linalg.norm(b - matrix @ found.x) / np.linalg.norm(b)
    assert found.residual == pytest.approx(true, rel=1e-6, abs=1e-16 * condition + 1e-14)
    assert found.residual <= 1e-8
    oracle = np.linalg.solve(matrix, b)
    assert np.linalg.norm(found.x - oracle) <= 10 * condition * 1e-8 * np.linalg.norm(oracle)


@EVERY
def test_units_do_not_matter(solver, rng):
    matrix, b = system(rng, 10.0)
    units = np.geomspace(1e-9, 1e9, len(b))
    diagonal = np.diagonal(matrix) * units**2
    found = solve(solver, units[:, None] * matrix * units, units * b, precondition=lambda v: v / diagonal)
    np.testing.assert_allclose(found.x * units, np.linalg.solve(matrix, b), rtol=1e-8)


@EVERY
def test_a_zero_right_hand_side_has_the_solution_zero(solver, rng):
    matrix, b = system(rng, 1e3)
    found = solve(solver, matrix, 0 * b, x0=b)
    assert (found.x == 0).all()
    assert found.residual == 0


@EVERY
def test_exact_zeros_in_the_right_hand_side_are_no_excuse(solver, rng):
    matrix, b = system(rng, 1e3)
    b[::2] = 0
    np.testing.assert_allclose(solve(solver, matrix, b).x, np.linalg.solve(matrix, b), rtol=1e-7)


@pytest.mark.parametrize("solver", [Direct(), ConjugateGradient()], ids=catalogue.name)
def test_an_indefinite_matrix_is_not_solved_silently(solver):
    found = solve(solver, np.diag([1.0, -1.0, 2.0]), np.ones(3))
    exact = np.allclose(found.x, [1, -1, 0.5])
    assert exact or not found.residual <= 1e-6


def test_too_few_steps_leave_a_residual_that_says_so(rng):
    matrix, b = system(rng, 1e6)
    found = solve(ConjugateGradient(max_steps=3), matrix, b)
    assert found.steps == 3
    assert found.residual > 1e-3


def test_a_warm_start_saves_steps(rng):
    matrix, b = system(rng, 1e3)
    cold = solve(ConjugateGradient(), matrix, b, tol=1e-8)
    warm = solve(ConjugateGradient(), matrix, b, tol=1e-8, x0=cold.x * (1 + 1e-10))
    assert warm.steps <= 2 < cold.steps


@EVERY
def test_batches_are_solved_like_their_members(solver, rng):
    systems = [system(rng, c) for c in (1.0, 1e2, 1e4)]
    with jax.enable_x64(True):
        matrices, sides = (jnp.stack([s[i] for s in systems]) for i in (0, 1))
        batched = jax.vmap(lambda m, b: solver.solve(operator(m), b, None, 1e-12))(matrices, sides)
    for k, (matrix, b) in enumerate(systems):
        np.testing.assert_allclose(batched.x[k], solve(solver, matrix, b).x, rtol=1e-9, atol=1e-9)


def test_a_rough_matrix_does_most_of_the_work_and_limits_nothing(rng):
    matrix, b = system(rng, 1e3)
    found = solve(ConjugateGradient(), matrix, b, rough=matrix)
    assert found.residual <= 1e-12
    np.testing.assert_allclose(found.x, np.linalg.solve(matrix, b), rtol=1e-9)


@pytest.mark.parametrize(
    "wrong", [np.eye(12), -np.eye(12), np.full((12, 12), np.nan)], ids=["other", "negative", "nan"]
)
def test_a_rough_matrix_that_is_wrong_is_left_for_the_exact_one(wrong, rng):
    matrix, b = system(rng, 1e3)
    found = solve(ConjugateGradient(), matrix, b, rough=wrong)
    assert found.residual <= 1e-12
    np.testing.assert_allclose(found.x, np.linalg.solve(matrix, b), rtol=1e-9)


@EVERY_ONE
def test_every_solver_solves_what_is_well_conditioned(solver, rng):
    matrix, b = system(rng, 10.0)
    found = solve(solver, matrix, b, tol=1e-10)
    assert found.residual <= 1e-10
    np.testing.assert_allclose(found.x, np.linalg.solve(matrix, b), rtol=1e-8)
    near = solve(solver, matrix, b, tol=1e-10, x0=found.x * (1 + 1e-9))
    assert near.residual <= 1e-10
    assert (solve(solver, matrix, 0 * b, x0=b).x == 0).all()


@EVERY_ONE
def test_every_solver_reports_the_true_residual_when_it_fails(solver, rng):
    matrix, b = system(rng, 1e12)
    found = solve(solver, matrix, b)
    true = np.linalg.norm(b - matrix @ found.x) / np.linalg.norm(b)
    assert found.residual == pytest.approx(true, rel=1e-4, abs=1e-6)


def test_normal_equations_solve_an_indefinite_system(rng):
    matrix, b = system(rng, 10.0)
    matrix = matrix @ matrix - 20 * np.eye(12)
    assert np.linalg.eigvalsh(matrix).min() < 0 < np.linalg.eigvalsh(matrix).max()
    np.testing.assert_allclose(solve(NormalConjugateGradient(), matrix, b).x, np.linalg.solve(matrix, b), rtol=1e-7)


def test_terms_of_the_neumann_series(rng):
    matrix, b = system(rng, 10.0)
    terms = [np.linalg.matrix_power(np.eye(12) - 0.1 * matrix, j) @ b for j in range(5)]
    np.testing.assert_allclose(solve(FixedPoint(0.1, max_steps=5), matrix, b).x, 0.1 * sum(terms), rtol=1e-12)


def test_a_rate_that_diverges_is_told(rng):
    matrix, b = system(rng, 10.0)
    assert not solve(FixedPoint(0.3), matrix, b).residual <= 1
    preconditioned = solve(Neumann(), 1e6 * matrix, b, tol=1e-9, precondition=lambda v: v / 3)
    assert preconditioned.residual <= 1e-9


@EVERY
def test_an_unknown_that_nothing_depends_on_stays_out(solver, rng):
    matrix, b = system(rng, 10.0)
    matrix[:, 3] = matrix[3] = b[3] = 0
    found = solve(solver, matrix, b)
    assert found.residual <= 1e-10
    assert found.x[3] == 0


def test_the_preconditioner_solves_where_it_is_the_inverse_and_says_so_where_not(rng):
    matrix, b = system(rng, 100.0)
    inverse = np.linalg.inv(matrix)
    exact = solve(Preconditioner(), matrix, b, precondition=lambda v: inverse @ v)
    np.testing.assert_allclose(exact.x, np.linalg.solve(matrix, b), rtol=1e-10)
    assert exact.residual < 1e-12
    wrong = solve(Preconditioner(), matrix, b, precondition=lambda v: inverse @ v * 1.1)
    assert wrong.residual == pytest.approx(0.1)


def test_a_closed_form_is_one_step_from_anywhere():
    problem = Problem(
        inner=lambda w, hyper, data: jnp.sum((data + hyper["alpha"]) * w**2) / 2 - jnp.sum(w),
        outer=lambda w, hyper, data: jnp.sum((w - 0.3) ** 2),
        init=lambda hyper, data: jnp.array([0.0, 9.0, -5.0]),
        precondition=lambda w, hyper, data: lambda v: v / (data + hyper["alpha"]),
    )
    data, hyper = jnp.array([1.0, 10.0, 1e4]), {"alpha": 0.5}
    optimum = 1 / (np.array(data) + 0.5)
    slope = np.sum(-2 * (optimum - 0.3) * optimum**2)
    for method in (Implicit(ClosedForm(), linear_solver=Preconditioner()), Reverse(ClosedForm(), steps=1)):
        with jax.enable_x64(True):
            value, gradient = value_and_hypergrad(problem, method)(hyper, data)
        np.testing.assert_allclose([value, gradient["alpha"]], [np.sum((optimum - 0.3) ** 2), slope], rtol=1e-6)
