"""The loop finds the optimum, verifies it, and says the truth when it cannot."""

import dataclasses
import itertools
import sys

import catalogue
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import make_classification

from skhypergrad.bilevel import (
    HOAG,
    LBFGSB,
    Budget,
    Implicit,
    Newton,
    Problem,
    Real,
    Status,
    Stop,
    Sweep,
    tune,
    value_and_hypergrad,
)
from skhypergrad.bilevel.hypergradients.evidence import Evidence
from skhypergrad.bilevel.optimizers import Answer, FirstOrder, Path, Visit
from skhypergrad.bilevel.region import Region
from skhypergrad.bilevel.solution import columns

# the package's `tune` is the function
tune_module = sys.modules["skhypergrad.bilevel.tune"]

RIDGE = catalogue.PROBLEMS[0]


class Oracle:
    """A function with its gradient, which counts and can refuse."""

    def __init__(self, function, refuse=lambda theta: False):
        self.function, self.refuse, self.points = jax.value_and_grad(function), refuse, []

    def __call__(self, theta, carry, tol):
        self.points.append(np.array(theta))
        value, gradient = self.function(jnp.asarray(theta))
        solved = not self.refuse(theta)
        return Answer(float(value), np.array(gradient, float), carry, solved)

    def follow(self, rule, theta, memory, carry, tol, steps):
        answer = self(theta, carry, tol)
        onward, memory = rule.move(theta, jnp.asarray(answer.gradient if answer.solved else np.nan * theta), memory)
        visit = Visit(np.array(theta), answer.value, answer.gradient, answer.solved)
        return Path(jnp.clip(onward, -9.0, 9.0), memory, answer.carry, [visit])


def bowl(theta):
    return 3 + jnp.sum((theta - 0.7) ** 2 * jnp.arange(1, theta.size + 1))


def two_basins(theta):
    return 2 + jnp.sum(0.05 * theta + jnp.cos(theta))


@pytest.mark.parametrize("optimizer", catalogue.OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
@pytest.mark.parametrize("size", [1, 3])
def test_optimizers_stay_inside_and_reach_the_minimum(optimizer, size):
    bounds = Region(np.full(size, -9.0), np.full(size, 9.0))
    oracle = Oracle(bowl)
    with jax.enable_x64(True):
        # steepest descent takes its time
        steps = 400 if isinstance(optimizer, (HOAG, FirstOrder)) else 50
        status = optimizer.minimize(oracle, np.full(size, -4.0), bounds, Budget(steps, 1e-6))
    points = np.array(oracle.points)
    assert (points >= bounds.low).all()
    assert (points <= bounds.high).all()
    values = [float(bowl(p)) for p in points]
    assert min(values) == pytest.approx(3, abs=1e-6)
    assert status is Status.converged


def test_the_better_of_two_basins_is_found_from_anywhere():
    bounds = Region(np.array([-9.4]), np.array([9.4]))
    grid = np.linspace(-9.4, 9.4, 2000)
    best = min(float(two_basins(np.array([t]))) for t in grid)
    for start in (-9.0, 0.0, 9.0):
        oracle = Oracle(two_basins)
        with jax.enable_x64(True):
            LBFGSB().minimize(oracle, np.array([start]), bounds, Budget(50, 1e-6))
        assert min(float(two_basins(p)) for p in oracle.points) <= best + 1e-5


def test_starts_on_the_slopes_of_a_minimum_that_was_found_are_left():
    bounds, seen = Region(np.full(3, -9.0), np.full(3, 9.0)), {}
    with jax.enable_x64(True):
        for function in bowl, two_basins:
            for n in 1, 3:
                oracle = Oracle(function)
                LBFGSB(n_descents=n).minimize(oracle, np.zeros(3), bounds, Budget(50, 1e-6))
                seen[function, n] = len(oracle.points)
    assert seen[bowl, 3] == seen[bowl, 1]
    assert seen[two_basins, 3] > seen[two_basins, 1]


def rounded(function):
    """Coarse answers have slopes that are wrong by a little, the same at every call."""

    class Coarse(Oracle):
        def __call__(self, theta, carry, tol):
            answer = super().__call__(theta, carry, tol)
            wrong = 0.02 if tol > 1e-4 else 0.0
            return answer._replace(gradient=answer.gradient - wrong)

    return Coarse(function)


@pytest.mark.parametrize("lowest", [-9.4, -4.71, -4.69, 0.01, 3.0, 9.4])
def test_a_line_is_closed_in_on_in_few_evaluations_from_coarse_starts(lowest):
    def curve(theta):
        return 2 + jnp.sum(jnp.logaddexp(theta - lowest, 0.5 * (lowest - theta)))

    oracle = rounded(curve)
    bounds = Region(np.array([-9.4]), np.array([9.4]))
    with jax.enable_x64(True):
        LBFGSB().minimize(oracle, np.zeros(1), bounds, Budget(50, 1e-6))
        best = min(float(curve(jnp.array([t]))) for t in np.linspace(-9.4, 9.4, 20001))
        assert min(float(curve(jnp.asarray(p))) for p in oracle.points) <= best + 1e-9
    assert len(oracle.points) <= 10 + 8


def test_a_descent_along_a_line_can_be_stopped_and_can_fail():
    bounds = Region(np.array([-9.4]), np.array([9.4]))
    with jax.enable_x64(True):
        stopped = LBFGSB().minimize(Oracle(two_basins), np.zeros(1), bounds, Budget(1, 1e-12))
        starts = LBFGSB(n_starts=5)
        failed = starts.minimize(Oracle(bowl, lambda t: 0 < t[0] < 4), np.zeros(1), bounds, Budget(9, 1e-6))
    assert stopped is Status.max_steps
    assert failed is Status.inner_failed


@pytest.mark.parametrize("size", [1, 2])
def test_a_descent_goes_back_from_points_without_an_answer(size):
    """One trial fails, wherever it is; and a first step leaps into a region where all do."""
    bounds = Region(np.full(size, -9.4), np.full(size, 9.4))
    calls = itertools.count()
    hiccup = Oracle(bowl, lambda theta: next(calls) == 6)
    beyond = Oracle(bowl, lambda theta: np.max(theta) > 1.0)
    with jax.enable_x64(True):
        assert LBFGSB(n_starts=5).minimize(hiccup, np.zeros(size), bounds, Budget(50, 1e-6)) is Status.converged
        leap = LBFGSB(n_starts=1, first_step=8.0)
        assert leap.minimize(beyond, np.full(size, -4.0), bounds, Budget(50, 1e-6)) is Status.converged


def test_what_is_not_solved_coarsely_is_solved_finely():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Picky(Implicit):
        def trusts(self, evidence, tol=None):
            return (tol is None or tol <= self.tol) & super().trusts(evidence, tol)

    alpha = {"alpha": Real(1e-4, 1e4)}
    solution = tune(RIDGE.problem, Picky(), LBFGSB(n_starts=3), alpha, RIDGE.data)
    assert solution.status is Status.converged
    assert {e.tol for e in solution.trace if e.solved} == {Picky().tol}
    assert "refined" in {e.reason for e in solution.trace}


def test_a_correction_as_large_as_the_value_is_not_trusted_at_a_coarse_tolerance():
    method = Implicit()
    coarse = Evidence(1.0, 0.05, 0.05, 3, 3, 2.0)
    assert not method.trusts(jax.tree.map(np.asarray, coarse), 0.1)
    assert method.trusts(jax.tree.map(np.asarray, coarse._replace(correction=0.2)), 0.1)
    # at full accuracy the residuals tell, however small the value itself
    assert method.trusts(jax.tree.map(np.asarray, coarse._replace(inner_residual=1e-9, linear_residual=1e-9)), 1e-8)


def test_the_first_step_has_the_length_it_should():
    for scale in (1e-9, 1e9):
        oracle = Oracle(lambda theta, scale=scale: scale * bowl(theta))
        with jax.enable_x64(True):
            LBFGSB(n_starts=1).minimize(
                oracle, np.array([-4.0]), Region(np.array([-9.0]), np.array([9.0])), Budget(50, 1e-6)
            )
        assert abs(oracle.points[2][0] - oracle.points[1][0]) == pytest.approx(1.0, rel=1e-6)


def test_no_solved_start_is_a_failure_and_a_flat_criterion_is_flat():
    bounds = Region(np.array([-9.0]), np.array([9.0]))
    with jax.enable_x64(True):
        refused = LBFGSB().minimize(Oracle(bowl, lambda t: True), np.zeros(1), bounds, Budget(50, 1e-6))
        flat = LBFGSB().minimize(Oracle(lambda t: 5 + 0 * jnp.sum(t)), np.zeros(1), bounds, Budget(50, 1e-6))
    assert refused is Status.inner_failed
    assert flat is Status.flat


def test_ridge_is_tuned_to_the_root_of_its_derivative():
    solution = tune(RIDGE.problem, Implicit(tol=1e-12), LBFGSB(), {"alpha": Real(1e-4, 1e4)}, RIDGE.data, tol=1e-6)
    X, y, Xv, yv = RIDGE.data

    def loss(log_alpha):
        w = np.linalg.solve(X.T @ X + np.exp(log_alpha) * np.eye(X.shape[1]), X.T @ y)
        return np.mean((Xv @ w - yv) ** 2)

    grid = np.linspace(np.log(1e-4), np.log(1e4), 4001)
    assert solution.status in (Status.converged, Status.boundary)
    assert solution.value <= min(map(loss, grid)) * (1 + 1e-9)
    assert solution.value == pytest.approx(loss(np.log(float(solution.hyper["alpha"]))), rel=1e-10)


def test_the_trace_has_the_evidence_and_the_returned_point_is_the_best_of_it():
    solution = tune(RIDGE.problem, Implicit(tol=1e-10), LBFGSB(), {"alpha": Real(1e-4, 1e4)}, RIDGE.data)
    found = [e for e in solution.trace if e.value == solution.value][-1]
    assert found.hyper == solution.hyper
    assert found.tol == 1e-10
    assert found.solved
    assert found.inner_residual <= 1e-8
    assert all(solution.value <= e.value * (1 + 1e-6) for e in solution.trace if e.solved)
    table = columns(solution.trace)
    assert len({len(v) for v in table.values()}) == 1
    assert {"criterion", "alpha", "gradient_norm", "inner_residual", "linear_residual", "seconds", "solved"} <= set(
        table
    )
    assert all(isinstance(v, np.ndarray) and v.flags.writeable for v in table.values())
    assert np.array_equal(table["d_alpha"], [e.gradient[0] for e in solution.trace])
    assert np.array_equal(np.abs(table["d_alpha"]), table["gradient_norm"])


@pytest.mark.parametrize("size", [2, 20, 21])
def test_the_trace_has_derivatives_of_up_to_twenty_values(size):
    solution = tune(RIDGE.problem, Implicit(), LBFGSB(), {"alpha": Real(1e-4, 1e4)}, RIDGE.data)
    slopes = np.arange(1.0, size + 1)
    trace = [e._replace(hyper={"alpha": np.ones(size)}, gradient=slopes) for e in solution.trace[:2]]
    trace[1] = trace[1]._replace(solved=False)
    table = columns(trace)
    names = [f"d_alpha[{i}]" for i in range(size)]
    if size > 20:
        assert not {*names} & {*table}
    else:
        assert [table[name][0] for name in names] == slopes.tolist()
        assert all(np.isnan(table[name][1]) for name in names)
    assert table["gradient_norm"][0] == pytest.approx(np.linalg.norm(slopes))
    assert np.isnan(table["gradient_norm"][1])


def nan_beyond(limit):
    def inner(w, hyper, data):
        broken = jnp.where(hyper["alpha"] > limit, jnp.nan, 0.0)
        return (w - 1) ** 2 / 2 + hyper["alpha"] * w**2 / 2 + broken * w

    return Problem(inner, lambda w, hyper, data: (w - 0.2) ** 2, lambda hyper, data: jnp.zeros(()))


def test_where_the_inner_problem_breaks_no_number_is_returned():
    # the optimum, alpha = 4, lies where everything is NaN
    solution = tune(nan_beyond(2.0), Implicit(), LBFGSB(), {"alpha": Real(1e-2, 1e2)})
    assert np.isfinite(solution.value)
    assert float(solution.hyper["alpha"]) <= 2.0
    assert solution.status is not Status.converged
    assert any(not e.solved for e in solution.trace)
    assert np.isnan(columns(solution.trace)["criterion"][[not e.solved for e in solution.trace]]).all()


def test_an_inner_problem_that_is_never_solved_fails_by_name():
    solution = tune(nan_beyond(-1.0), Implicit(), LBFGSB(), {"alpha": Real(1e-2, 1e2)})
    assert solution.status is Status.inner_failed
    assert np.isnan(solution.value)


def test_a_maximum_of_steps_is_kept_and_said():
    solution = tune(RIDGE.problem, Implicit(), LBFGSB(n_starts=1), {"alpha": Real(1e-9, 1e9)}, RIDGE.data, max_steps=2)
    assert solution.status is Status.max_steps
    assert len(solution.trace) <= 1 + 2 + 1


def test_a_callback_may_stop_and_the_best_so_far_is_verified():
    seen = []

    def stop(evaluation):
        seen.append(evaluation)
        return len(seen) == 4

    solution = tune(RIDGE.problem, Implicit(), LBFGSB(), {"alpha": Real(1e-4, 1e4)}, RIDGE.data, callback=stop)
    assert solution.status is Status.interrupted
    assert solution.value <= min(e.value for e in seen) * (1 + 1e-3)

    def late(evaluation):
        raise Stop(Status.timeout)

    assert tune(RIDGE.problem, Implicit(), LBFGSB(), {"alpha": Real(1e-4, 1e4)}, RIDGE.data, callback=late).status is (
        Status.timeout
    )


def test_a_judge_chooses_and_the_criterion_breaks_ties():
    def judge(params):
        return float(np.round(np.abs(np.array(params)).max(), 1))

    space = {"alpha": Real(1e-4, 1e4)}
    solution = tune(RIDGE.problem, Implicit(), LBFGSB(), space, RIDGE.data, judge=judge)
    assert judge(solution.params) == min(e.judged for e in solution.trace if e.solved)
    constant = tune(RIDGE.problem, Implicit(), LBFGSB(), space, RIDGE.data, judge=lambda params: 1.0)
    plain = tune(RIDGE.problem, Implicit(), LBFGSB(), space, RIDGE.data)
    assert constant.value == pytest.approx(plain.value, rel=1e-6)


def test_hyperparameters_of_several_elements_each_find_their_own():
    target = jnp.asarray([1.0, 4.0, 0.25])

    def inner(w, hyper, data):
        return jnp.sum((w - 1) ** 2) / 2 + jnp.sum(hyper["alpha"] * w**2) / 2

    problem = Problem(
        inner, lambda w, hyper, data: jnp.sum((w - 1 / (1 + target)) ** 2), lambda hyper, data: jnp.zeros(3)
    )
    space = {"alpha": Real(1e-3, 1e3, shape=(3,))}
    solution = tune(problem, Implicit(Newton()), LBFGSB(), space, tol=1e-7, max_steps=100)
    np.testing.assert_allclose(solution.hyper["alpha"], target, rtol=1e-2)


def test_the_same_search_twice_is_bitwise_the_same():
    runs = [tune(RIDGE.problem, Implicit(), LBFGSB(), {"alpha": Real(1e-4, 1e4)}, RIDGE.data) for _ in range(2)]
    assert runs[0].value == runs[1].value
    assert [e.value for e in runs[0].trace] == [e.value for e in runs[1].trace]


@pytest.fixture(scope="module")
def flat_ends():
    """Logistic regression whose criterion is flat for weak and for strong penalties: the problem of HOAG's own notebook."""
    X, y = make_classification(
        3000, 100, n_informative=50, n_redundant=25, n_clusters_per_class=3, flip_y=0.1, class_sep=1, random_state=1
    )
    thirds = np.arange(3000) % 3

    def loss(w, X, y):
        return jnp.sum(jax.nn.softplus(X @ w) - y * (X @ w))

    problem = Problem(
        inner=lambda w, hyper, data: loss(w, *data[:2]) + hyper["alpha"] * jnp.sum(w**2) / 2,
        outer=lambda w, hyper, data: loss(w, *data[2:]),
        init=lambda hyper, data: jnp.zeros(data[0].shape[1]),
    )
    data = (X[thirds == 0], y[thirds == 0].astype(float), X[thirds == 1], y[thirds == 1].astype(float))
    with jax.enable_x64(True):
        evaluate = value_and_hypergrad(problem, Implicit())
        grid = min(float(evaluate({"alpha": a}, data)[0]) for a in np.exp(np.linspace(-12, 12, 25)))
    return problem, data, grid


@pytest.mark.parametrize("start", [-12.0, -6.0, 0.0, 6.0, 12.0])
@pytest.mark.parametrize(
    "optimizer", [HOAG(), HOAG("quadratic"), HOAG("cubic"), LBFGSB(), LBFGSB(n_starts=1)], ids=repr
)
def test_no_start_ends_in_a_flat_region(optimizer, start, flat_ends):
    problem, data, grid = flat_ends
    space = {"alpha": Real(np.exp(-12), np.exp(12), init=np.exp(start))}
    found = tune(problem, Implicit(), optimizer, space, data, max_steps=60)
    assert found.value <= 1.005 * grid
    assert np.exp(-11) < float(found.hyper["alpha"]) < np.exp(11)


def test_hoag_solves_coarsely_first_and_finely_last():
    found = tune(RIDGE.problem, Implicit(), HOAG(), {"alpha": Real(1e-3, 1e3)}, RIDGE.data, max_steps=300)
    tols = [e.tol for e in found.trace]
    assert tols[0] == pytest.approx(0.09)
    assert all(later <= earlier for earlier, later in itertools.pairwise(tols))
    assert found.status is Status.converged
    best = tune(RIDGE.problem, Implicit(), LBFGSB(), {"alpha": Real(1e-3, 1e3)}, RIDGE.data)
    assert found.value == pytest.approx(best.value, rel=1e-7)
    with pytest.raises(ValueError, match="cubic"):
        HOAG("linear")


@pytest.mark.parametrize("schedule", ["quadratic", "exponential", "exact"])
def test_hoag_stays_within_its_budget(schedule):
    oracle = Oracle(two_basins)
    with jax.enable_x64(True):
        status = HOAG(schedule).minimize(
            oracle, np.array([1.0]), Region(np.array([-9.4]), np.array([9.4])), Budget(7, 1e-12)
        )
    assert status is Status.max_steps
    assert len(oracle.points) <= 8


def test_hoag_asks_nothing_twice_of_answers_that_are_final():
    oracle = Oracle(bowl)
    with jax.enable_x64(True):
        budget = Budget(400, 1e-6, float("inf"))
        status = HOAG().minimize(oracle, np.array([-4.0]), Region(np.array([-9.0]), np.array([9.0])), budget)
    assert status is Status.converged
    assert len({p.tobytes() for p in oracle.points}) == len(oracle.points)


def test_a_sweep_looks_at_a_lattice_or_at_points_and_descends_nothing():
    space = {"alpha": Real(1e-2, 1e2)}
    lattice = tune(RIDGE.problem, Implicit(), Sweep(5), space, RIDGE.data)
    assert [float(e.hyper["alpha"]) for e in lattice.trace] == pytest.approx([1e-2, 1e-1, 1, 1e1, 1e2])
    assert lattice.status is Status.swept
    assert lattice.value == min(e.value for e in lattice.trace)
    assert all(e.solved and e.tol == Implicit().tol for e in lattice.trace)
    init = tune(RIDGE.problem, Implicit(), Sweep(()), {"alpha": Real(1e-2, 1e2, init=1.0)}, RIDGE.data)
    assert init.value == pytest.approx(lattice.trace[2].value, rel=1e-12)
    assert len(init.trace) == 1
    two = Oracle(bowl)
    with jax.enable_x64(True):
        Sweep(3).minimize(two, np.zeros(2), Region(np.zeros(2), np.ones(2)), Budget(1, 1e-6))
    assert len({p.tobytes() for p in two.points}) == 9
    assert max(np.abs(a - b).max() for a, b in itertools.pairwise(two.points)) == 0.5
    with pytest.raises(ValueError, match="fewer hyperparameters"):
        Sweep().minimize(two, np.zeros(9), Region(np.zeros(9), np.ones(9)), Budget(1, 1e-6))


def test_compiled_programs_of_many_shapes_are_let_go(monkeypatch):
    monkeypatch.setattr(tune_module, "PROGRAMS", 3)
    problem = Problem(
        inner=lambda w, hyper, data: jnp.sum((w - data) ** 2) + hyper["alpha"] * jnp.sum(w**2),
        outer=lambda w, hyper, data: jnp.sum((w - 1.0) ** 2),
        init=lambda hyper, data: 0.0 * data,
    )
    sizes = []
    for n in (1, 2, 3, 4, 5, 6, 1):
        found = tune(problem, Implicit(), LBFGSB(n_starts=3), {"alpha": Real(1e-2, 1e2)}, np.full(n, 4.0))
        # w = 4 / (1 + alpha)
        assert float(found.hyper["alpha"]) == pytest.approx(3.0, rel=1e-4)
        sizes.append(tune_module._step.alone()._cache_size())
    assert max(sizes) <= 4
