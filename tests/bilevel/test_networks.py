"""The network and its training are scikit-learn's; hypergradients along the training are differences of it."""

from itertools import pairwise

import jax
import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skhypergrad.bilevel import (
    Forward,
    Real,
    RealTime,
    Reverse,
    Space,
    Status,
    criteria,
    losses,
    networks,
    value_and_hypergrad,
)
from skhypergrad.bilevel.optimizers import Answer, Budget

STEPS = 12


def lesson(X, y, rates, start=None):
    """One task that is trained on all rows in their order, and judged by them as well."""
    n = len(X)
    rng = np.random.RandomState(0)
    sizes = (X.shape[1], 4, y.shape[1])
    start = start or [networks.Layer(rng.normal(size=(a, b)) / 2, np.zeros(b)) for a, b in pairwise(sizes)]
    rows = np.arange(n, dtype=np.int32)
    fixed = {"alpha": 0.3, "init_scale": 1.0, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "momentum": 0.9} | rates
    return networks.Lesson(
        X, y, np.ones(n), rows[None], rows, np.array(1), rows, np.ones(n), np.ones(y.shape[1]), np.array(1.0), start,
        {name: np.array(value) for name, value in fixed.items()},
    )  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    rng = np.random.RandomState(1)
    return rng.normal(size=(20, 3)), rng.normal(size=(20, 2))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("solver", "rule"), [("adam", "adam"), ("sgd", "momentum"), ("sgd", "nesterov")])
@pytest.mark.parametrize("kind", ["squared", "multinomial"])
def test_a_training_is_scikit_learns(rows, solver, rule, kind):
    X, y = rows
    cls, loss = (MLPRegressor, losses.squared) if kind == "squared" else (MLPClassifier, losses.multinomial)
    code = np.arange(20) % 3
    y, given = (y, y) if kind == "squared" else (np.eye(3)[code], code)
    model = cls(
        hidden_layer_sizes=(4,), activation="tanh", solver=solver, alpha=0.3, random_state=0, shuffle=False,
        nesterovs_momentum=rule == "nesterov", n_iter_no_change=STEPS,
    )  # fmt: skip
    first = model.set_params(max_iter=1, learning_rate_init=1e-300).fit(X, given)
    start = [networks.Layer(c.copy(), b.copy()) for c, b in zip(first.coefs_, first.intercepts_, strict=True)]
    model.set_params(max_iter=STEPS, learning_rate_init=0.05).fit(X, given)
    data = lesson(X, y, {"learning_rate_init": 0.05}, start)
    problem, training = (
        networks.held_out_rows(networks.MLP(loss, "tanh"), criteria.squared_error),
        networks.Training(rule),
    )
    with jax.enable_x64(True):
        state = training.init(problem, {}, data, start)
        step = jax.jit(lambda state, data: training.step(problem, {}, data, state))
        for _ in range(STEPS):
            state = step(state, data)
    # scikit-learn's Adam has its epsilon outside of the root
    tol = 1e-4 if rule == "adam" else 1e-9
    for (coef, intercept), c, b in zip(state.params, model.coefs_, model.intercepts_, strict=True):
        np.testing.assert_allclose(coef, c, rtol=tol, atol=tol)
        np.testing.assert_allclose(intercept, b, rtol=tol, atol=tol)


@pytest.mark.parametrize("method", [Forward, Reverse])
def test_the_hypergradient_of_a_training_is_a_difference(rows, method):
    X, y = rows
    problem = networks.held_out_rows(networks.MLP(losses.squared, "tanh"), criteria.squared_error)
    function = value_and_hypergrad(problem, method(networks.Training("adam"), STEPS))
    data = lesson(X, y, {})
    hyper = {
        "alpha": np.array([0.3, 2.0]), "learning_rate_init": np.array([0.05, 0.02]), "beta_1": 0.8, "init_scale": 0.7
    }  # fmt: skip
    with jax.enable_x64(True):
        _, gradient = function(hyper, data)
        for name, value in hyper.items():
            for i in range(np.size(value)):
                h = np.zeros(np.shape(value))
                h[(i,) if h.ndim else ()] = 1e-5
                up, down = (function({**hyper, name: value + s * h}, data)[0] for s in (1, -1))
                np.testing.assert_allclose(np.ravel(gradient[name])[i], (up - down) / 2e-5, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("rates", [[0.05, 0.02, 0.01], [[0.05, 0.03], [0.01, 0.02], [0.1, 0.001]]])
def test_a_schedule_is_geometric_between_its_rates(rows, rates):
    X, y = rows
    problem = networks.held_out_rows(networks.MLP(losses.squared, "tanh"), criteria.squared_error)
    data, rates, n = lesson(X, y, {}), np.array(rates), 2 * (STEPS // 2) + 1
    shares = np.arange(n) * 2 / (n - 1)
    course = np.exp([np.interp(shares, np.arange(3), column) for column in np.log(rates.reshape(3, -1)).T]).T
    with jax.enable_x64(True):
        scheduled = Reverse(networks.Training("adam", n), n)
        value, gradient = value_and_hypergrad(problem, scheduled)({"learning_rate_init": rates}, data)
        # the same by hand: every step with its own rate
        state = networks.Training("adam").init(
            problem, {}, data._replace(fixed=data.fixed | {"learning_rate_init": 0.0}), data.start
        )
        for now in course:
            hyper = {"learning_rate_init": now if rates.ndim > 1 else now[0]}
            state = networks.Training("adam").step(problem, hyper, data, state)
        assert float(problem.outer(state.params, {}, data)) == pytest.approx(float(value), rel=1e-12)
        place, h = (1,) * rates.ndim, 1e-6
        ends = []
        for sign in (1, -1):
            moved = rates.copy()
            moved[place] += sign * h
            ends.append(float(value_and_hypergrad(problem, scheduled)({"learning_rate_init": moved}, data)[0]))
    assert float(gradient["learning_rate_init"][place]) == pytest.approx((ends[0] - ends[1]) / 2 / h, rel=1e-5)


def test_a_discount_of_one_is_none_and_of_nothing_sees_one_step(rows):
    X, y = rows
    problem = networks.held_out_rows(networks.MLP(losses.squared, "tanh"), criteria.squared_error)
    data, hyper = lesson(X, y, {}), {"learning_rate_init": 0.05}

    def slope(**options):
        with jax.enable_x64(True):
            forward = Forward(networks.Training("adam"), STEPS, **options)
            return float(value_and_hypergrad(problem, forward)(hyper, data)[1]["learning_rate_init"])

    assert slope(discount=1.0) == pytest.approx(slope(), rel=1e-12)
    assert slope(discount=1e-12) == pytest.approx(slope(window=1), rel=1e-9)
    assert slope(discount=0.5) != pytest.approx(slope(), rel=1e-2)


@pytest.mark.parametrize("discount", [0.0, 1.5, -1])
def test_a_discount_that_makes_no_sense_is_refused(discount):
    with pytest.raises(ValueError, match="discount must be above 0"):
        Forward(networks.Training("adam"), STEPS, discount=discount)


class Cliff:
    """A criterion that falls with every call and wants theta to grow; from 2 on there are no numbers."""

    def __init__(self):
        self.asked = []

    def __call__(self, theta, carry, tol):
        self.asked.append(float(theta[0]))
        steps = 1 if carry is None else carry + 1
        solved = float(theta[0]) < 2
        return Answer(abs(theta[0] - 1.5) + 1 / steps if solved else np.nan, np.array([-1.0]), steps, solved)


def test_real_time_goes_back_from_where_there_are_no_numbers_and_not_there_again():
    region, oracle = Space({"x": Real(0.0, 10.0, "linear")}).region(), Cliff()
    optimizer = RealTime(rate=0.3, starts=((5.0,), (3.0,), (0.5,), (1.4,)), trial=1, patience=50, retreat=(-0.5,))
    status = optimizer.minimize(oracle, np.array([5.0]), region, Budget(40, 1e-4, 1.0))
    assert status is Status.max_steps
    assert oracle.asked[:4] == [5.0, 3.0, 0.5, 1.4]
    # the better two go on for two evaluations each, where 1.4 falls over; the other one walks up to the cliff once
    over = [i for i, x in enumerate(oracle.asked) if i >= 8 and x >= 2]
    assert len(over) == 1
    after = oracle.asked[over[0] + 1 :]
    assert after[0] == max(after) < 2


@pytest.mark.parametrize("starts", [(), (0.5,), (5.0, 3.0, 0.5, 1.4), (0.5, 1.4, 3.0), (1.9, 1.8, 0.1, 0.2, 5.0, 1.0)])
@pytest.mark.parametrize("trial", [1, 3])
def test_the_comparison_of_starts_is_counted_from_what_became_of_them(starts, trial):
    region, oracle = Space({"x": Real(0.0, 10.0, "linear")}).region(), Cliff()
    optimizer = RealTime(rate=0.3, starts=tuple((start,) for start in starts), trial=trial)
    _, used = optimizer._begin(oracle, np.array([1.0]), region, Budget(40, 1e-4, 1.0))
    solved = [place < 2 for place in oracle.asked]
    assert used == len(solved) == optimizer.compared([*solved, True, False, True])
