"""`Reverse` and `Forward` are `jax.grad` through a plain loop; what they cannot do they say."""

import catalogue
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skhypergrad.bilevel import (
    LBFGSB,
    Adam,
    Forward,
    GradientDescent,
    Implicit,
    Momentum,
    Newton,
    Problem,
    Real,
    Reverse,
    Status,
    tune,
    value_and_hypergrad,
)
from skhypergrad.bilevel.tune import _start, _step

N, P, T = 12, 3, 9
MODES = pytest.mark.parametrize("mode", catalogue.UNROLLED, ids=lambda m: m.__name__)


def inner(params, hyper, data):
    """Weighted rows, a penalty per feature, a bias."""
    X, y, _, _ = data
    weight = hyper["weight"][: len(y)]
    error = X @ params["w"] + params["b"] - y
    return jnp.mean(weight * error**2) / 2 + jnp.sum(hyper["alpha"] * params["w"] ** 2) / 2


def outer(params, hyper, data):
    _, _, X, y = data
    return jnp.mean((X @ params["w"] + params["b"] - y) ** 2) + 0.1 * jnp.sum(hyper["alpha"] ** 2)


def learned(hyper, data):
    return {"w": hyper["start"], "b": jnp.zeros((), hyper["start"].dtype)}


def four_rows(data, step):
    X, y, *held_out = data
    first = 4 * (step % 3)
    return (*(jax.lax.dynamic_slice_in_dim(part, first, 4) for part in (X, y)), *held_out)


FULL, BATCHES = Problem(inner, outer, learned), Problem(inner, outer, learned, batch=four_rows)


def make_data(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, P)), rng.normal(size=N), rng.normal(size=(7, P)), rng.normal(size=7)


def make_hyper(rates=(0.1, 0.5)):
    rng = np.random.default_rng(1)
    a, b = rates
    return {"alpha": rng.random(P), "weight": rng.random(N), "start": rng.normal(size=P), "a": a, "b": b}


def over(w, value):
    return jax.tree.map(lambda _: value, w)


def by_hand(name, problem, hyper, data, a, b):
    """T steps and the outer objective, by a plain loop that shares no code with the package."""
    w = learned(hyper, data)
    m = v = jax.tree.map(jnp.zeros_like, w)
    each = jax.tree.map
    for t in range(T):
        part = data if problem.batch is None else four_rows(data, t)
        g = jax.grad(inner)(w, hyper, part)
        if name == "gradient descent":
            w = each(lambda w, g, a: w - a * g, w, g, over(w, a(t)))
        elif name == "Adam":
            b1, b2 = b(t), 0.9 + 0.1 * b(t)
            m = each(lambda m, g, b1: b1 * m + (1 - b1) * g, m, g, over(w, b1))
            v = each(lambda v, g, b2: b2 * v + (1 - b2) * g**2, v, g, over(w, b2))
            first = each(lambda m, c: m / c, m, over(w, 1 - b1 ** (t + 1)))
            second = each(lambda v, c: v / c, v, over(w, 1 - b2 ** (t + 1)))
            w = each(lambda w, m, v, a: w - a * m / (v + 1e-16) ** 0.5, w, first, second, over(w, a(t)))
        else:
            m = each(lambda m, g, b: b * m + g, m, g, over(w, b(t)))
            ahead = each(lambda m, g, b: g + b * m, m, g, over(w, b(t))) if name == "Nesterov" else m
            w = each(lambda w, d, a: w - a * d, w, ahead, over(w, a(t)))
    return outer(w, hyper, data)


def same(found, expected, rtol=1e-10):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.max(np.abs(b)))


@MODES
@pytest.mark.parametrize("problem", [FULL, BATCHES], ids=["full", "mini-batches"])
@pytest.mark.parametrize("name", catalogue.UNROLLABLE)
def test_every_solver_is_differentiated_exactly(name, problem, mode):
    make = catalogue.UNROLLABLE[name]
    with jax.enable_x64(True):
        hyper, data = jax.tree.map(jnp.asarray, (make_hyper(), make_data()))
        if name == "gradient descent":
            del hyper["b"]
        method = mode(lambda hyper: make(hyper["a"], hyper.get("b")), steps=T)
        found = value_and_hypergrad(problem, method)(hyper, data)
        plain = jax.value_and_grad(lambda h: by_hand(name, problem, h, data, lambda t: h["a"], lambda t: h["b"]))(hyper)
    expected = plain[0], plain[1]
    same(found, expected)


@MODES
def test_a_schedule_has_a_derivative_at_every_step(mode):
    method = mode(lambda hyper: Momentum(hyper["a"], hyper["b"]), steps=T)
    with jax.enable_x64(True):
        schedules = np.geomspace(0.2, 0.05, T), np.linspace(0.3, 0.8, T)
        hyper, data = jax.tree.map(jnp.asarray, (make_hyper(schedules), make_data()))
        found = value_and_hypergrad(FULL, method)(hyper, data)
        expected = jax.value_and_grad(
            lambda h: by_hand("heavy ball", FULL, h, data, lambda t: h["a"][t], lambda t: h["b"][t])
        )(hyper)
    same(found, expected)


@MODES
def test_a_rate_for_every_leaf(mode):
    def solver(hyper):
        return GradientDescent({"w": hyper["a"], "b": hyper["b"]})

    with jax.enable_x64(True):
        hyper, data = jax.tree.map(jnp.asarray, (make_hyper((0.1, 0.1)), make_data()))
        alike = value_and_hypergrad(FULL, mode(solver, steps=T))(hyper, data)
        shared = value_and_hypergrad(FULL, mode(lambda h: GradientDescent(h["a"] + 0 * h["b"]), steps=T))(hyper, data)
    assert float(alike[0]) == pytest.approx(float(shared[0]), rel=1e-14)
    assert float(alike[1]["a"] + alike[1]["b"]) == pytest.approx(float(shared[1]["a"]), rel=1e-12)
    with pytest.raises(ValueError, match="structure of the parameters"):
        value_and_hypergrad(FULL, mode(lambda h: GradientDescent([h["a"], h["b"]]), steps=T))(make_hyper(), make_data())


@MODES
def test_tasks_are_averaged(mode):
    method = mode(lambda hyper: Adam(hyper["a"], hyper["b"]), steps=T)
    sets = [make_data(k) for k in range(3)]
    with jax.enable_x64(True):
        alone = [value_and_hypergrad(FULL, method)(make_hyper(), data) for data in sets]
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *sets)
        together = value_and_hypergrad(FULL, method, task_axes=(0, 0, 0, 0))(make_hyper(), stacked)
        same(together, jax.tree.map(lambda *x: sum(x) / 3, *alone))


def test_keeping_fewer_states_changes_nothing():
    solver = GradientDescent(0.1)
    hyper = {k: v for k, v in make_hyper().items() if k not in "ab"}
    with jax.enable_x64(True):
        kept = value_and_hypergrad(FULL, Reverse(solver, steps=11))(hyper, make_data())
        again = value_and_hypergrad(FULL, Reverse(solver, steps=11, memory=0))(hyper, make_data())
    same(again, kept, rtol=1e-14)


RIDGE = catalogue.PROBLEMS[0]
RATE = 0.01


def curvature():
    X = RIDGE.data[0]
    h = np.linalg.eigvalsh(X.T @ X) + 0.7
    assert h.max() * RATE < 1
    return h.min()


@MODES
def test_a_window_is_exact_when_it_is_the_run_and_else_errs_within_the_bound(mode):
    steps, slowest = 40, curvature()
    with jax.enable_x64(True):
        whole = value_and_hypergrad(RIDGE.problem, mode(GradientDescent(RATE), steps=steps))(RIDGE.hyper, RIDGE.data)
        for window in (1, 2, 5, 10, 20, 40):
            method = mode(GradientDescent(RATE), steps=steps, window=window)
            value, gradient = value_and_hypergrad(RIDGE.problem, method)(RIDGE.hyper, RIDGE.data)
            assert float(value) == pytest.approx(float(whole[0]), rel=1e-12)
            error = abs(float(gradient["alpha"] - whole[1]["alpha"]))
            # Shaban et al. (2019), proposition 3.1, with B_t = -lr w_t
            X, y, Xv, yv = RIDGE.data
            carry = _start(
                RIDGE.problem, None, method, {"alpha": jnp.asarray(0.7)}, jax.tree.map(jnp.asarray, RIDGE.data)
            )
            w = np.array(
                _step(RIDGE.problem, None, method, {"alpha": jnp.asarray(0.7)}, RIDGE.data, carry, 0.0)[2].params
            )
            slope = np.linalg.norm(2 * Xv.T @ (Xv @ w - yv) / len(yv))
            largest = np.linalg.norm(np.linalg.lstsq(X, y, rcond=None)[0]) * 1.5
            bound = (1 - RATE * slowest) ** window / (RATE * slowest) * slope * RATE * largest
            assert error <= (bound if window < steps else 1e-12)


def test_a_long_run_has_the_implicit_hypergradient():
    with jax.enable_x64(True):
        implicit = value_and_hypergrad(RIDGE.problem, Implicit(tol=1e-12))(RIDGE.hyper, RIDGE.data)
        for mode in catalogue.UNROLLED:
            same(
                value_and_hypergrad(RIDGE.problem, mode(Momentum(0.02, 0.8), 400))(RIDGE.hyper, RIDGE.data),
                implicit,
                1e-6,
            )
        descent = Implicit(GradientDescent(0.02), tol=1e-10, max_steps=2000)
        same(value_and_hypergrad(RIDGE.problem, descent)(RIDGE.hyper, RIDGE.data), implicit, 1e-6)


@MODES
def test_single_precision_is_close(mode):
    method = mode(lambda hyper: Momentum(hyper["a"], hyper["b"]), steps=T)
    hyper, data = make_hyper(), make_data()
    with jax.enable_x64(True):
        double = value_and_hypergrad(FULL, method)(hyper, data)
    single = value_and_hypergrad(FULL, method)(jax.tree.map(np.float32, hyper), jax.tree.map(np.float32, data))
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(single))
    same(single, double, rtol=1e-4)


@MODES
def test_adam_on_a_column_of_zeros_has_a_finite_hypergradient(mode):
    X, y, Xv, yv = make_data()
    X[:, 1] = 0
    hyper = make_hyper()
    hyper["start"][1] = 0
    with jax.enable_x64(True):
        value, gradient = value_and_hypergrad(FULL, mode(lambda h: Adam(h["a"], h["b"]), steps=T))(
            hyper, (X, y, Xv, yv)
        )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((value, gradient)))
    assert np.abs(gradient["start"]).max() > 0


@MODES
def test_a_run_that_breaks_off_is_nan_at_the_step_where_it_does(mode):
    exploding = Problem(
        inner=lambda w, hyper, data: hyper["alpha"] * w**4 / 4,
        outer=lambda w, hyper, data: w**2,
        init=lambda h, d: 10.0 * d,
    )
    with jax.enable_x64(True):
        method, hyper, data = mode(GradientDescent(1.0), steps=50), {"alpha": jnp.asarray(1.0)}, jnp.asarray(1.0)
        w, steps = 10.0, 0
        while abs(w) < 1e102:  # the cube of what follows is beyond float64
            w, steps = w - w**3, steps + 1
        value, gradient, carry = _step(
            exploding, None, method, hyper, data, _start(exploding, None, method, hyper, data), 0.0
        )
        assert np.isnan(value)
        assert np.isnan(gradient["alpha"])
        assert int(carry.evidence.inner_steps) == steps
        assert float(carry.params) == pytest.approx(w)
        assert not method.trusts(carry.evidence)
        lost = tune(exploding, method, LBFGSB(), {"alpha": Real(1.0, 2.0)}, 1.0)
        partly = tune(exploding, method, LBFGSB(), {"alpha": Real(1e-4, 1.0)}, 1.0)
    assert lost.status is Status.inner_failed
    assert np.isnan(lost.value)
    assert np.isfinite(partly.value)
    assert float(partly.hyper["alpha"]) < 1.0


def test_the_memory_of_a_run_is_bounded():
    """Not the weights but what is computed from many rows on the way takes the memory here."""
    rows = Problem(
        inner=lambda w, hyper, data: jnp.mean(hyper["weight"] * jnp.logaddexp(0, data @ w)) + 0.01 * jnp.sum(w**2),
        outer=lambda w, hyper, data: jnp.sum(w**2),
        init=lambda hyper, data: jnp.ones(5),
    )
    n, steps = 2_000, 64
    hyper, data = {"weight": np.ones(n, np.float32)}, np.ones((n, 5), np.float32)

    def bytes_with(memory):
        evaluate = value_and_hypergrad(rows, Reverse(GradientDescent(0.1), steps, memory=memory))
        return jax.jit(evaluate).lower(hyper, data).compile().memory_analysis().temp_size_in_bytes

    one_step = 4 * n
    everything, bounded = bytes_with(1 << 30), bytes_with(20 * one_step)
    assert everything > steps * one_step
    assert bounded < everything / 3


def test_online_forms_go_on_from_where_they_were():
    hyper, data = {"alpha": jnp.asarray(0.7)}, jax.tree.map(np.float32, RIDGE.data)

    def twice(method):
        carry = _start(RIDGE.problem, None, method, hyper, data)
        _, _, carry = _step(RIDGE.problem, None, method, hyper, data, carry, 0.0)
        return _step(RIDGE.problem, None, method, hyper, data, carry, 0.0)[:2]

    def once(method):
        return value_and_hypergrad(RIDGE.problem, method)(hyper, data)

    solver = Momentum(0.01, 0.5)
    # real-time: the derivative of all steps so far; forgetful or backwards: of the last call's alone
    same(twice(Forward(solver, steps=5)), once(Forward(solver, steps=10)), 1e-5)
    same(twice(Forward(solver, steps=5, window=5)), once(Reverse(solver, steps=10, window=5)), 1e-5)
    same(twice(Reverse(solver, steps=5)), once(Reverse(solver, steps=10, window=5)), 1e-5)


def test_what_a_mode_cannot_do_is_refused():
    for mode in catalogue.UNROLLED:
        with pytest.raises(ValueError, match="cannot be unrolled"):
            mode(Newton(), steps=3)
        for lengths in ({"steps": 0}, {"steps": 3, "window": 4}, {"steps": 3, "window": 0}):
            with pytest.raises(ValueError, match="steps must be at least 1"):
                mode(GradientDescent(0.1), **lengths)
        with pytest.raises(ValueError, match="'start'"):
            value_and_hypergrad(FULL, mode(lambda h: Momentum(h["a"], h["b"]), steps=9, window=3))(
                make_hyper(), make_data()
            )
    with pytest.raises(ValueError, match=r"'a', 'b', 'start'.*Reverse and Forward"):
        value_and_hypergrad(FULL, Implicit())(make_hyper(), make_data())


def test_learning_rate_momentum_and_penalty_are_tuned_together():
    space = {"alpha": Real(1e-3, 1e2), "a": Real(1e-4, 0.04), "b": Real(0.01, 0.95, scale="linear")}
    method = Reverse(lambda hyper: Momentum(hyper["a"], hyper["b"]), steps=30)
    found = tune(RIDGE.problem, method, LBFGSB(), space, RIDGE.data)
    assert found.status in (Status.converged, Status.boundary, Status.max_steps)
    for alpha in np.geomspace(1e-3, 1e2, 6):
        with jax.enable_x64(True):
            value, _ = value_and_hypergrad(RIDGE.problem, method)({"alpha": alpha, "a": 0.02, "b": 0.5}, RIDGE.data)
        assert found.value <= float(value) + 1e-9
