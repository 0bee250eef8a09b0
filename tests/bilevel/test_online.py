"""The online forms are the published loops, run as one program; several objectives keep to their own hyperparameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from skhypergrad.bilevel import (
    LBFGSB,
    ConjugateGradient,
    FirstOrder,
    Forward,
    GradientDescent,
    Implicit,
    Momentum,
    Problem,
    Real,
    Reverse,
    Space,
    Status,
    tune,
    value_and_hypergrad,
)

SPACE = {"penalty": Real(1e-4, 10.0), "rate": Real(1e-3, 0.3), "momentum": Real(0, 0.95, scale="linear")}
STEPS, UPDATES, RATE = 3, 12, 0.4
RULE = FirstOrder(optax.sgd(RATE))


def validation(w, hyper, data):
    return jnp.mean((data[2] @ w - data[3]) ** 2)


def training(w, hyper, data):
    return jnp.mean((data[0] @ w - data[1]) ** 2)


def inner(w, hyper, data):
    return training(w, hyper, data) / 2 + hyper["penalty"] * jnp.sum(w**2) / 2


def zeros(hyper, data):
    return jnp.zeros(data[0].shape[1])


def heavy_ball(hyper):
    return Momentum(hyper["rate"], hyper["momentum"])


PROBLEM = Problem(inner, validation, zeros)
APART = Problem(inner, {"penalty": validation, "rate": training, "momentum": training}, zeros)


@pytest.fixture
def data(rng):
    X, Xv, w = rng.normal(size=(40, 10)), rng.normal(size=(40, 10)), rng.normal(size=10)
    return X, X @ w + rng.normal(size=40), Xv, Xv @ w + rng.normal(size=40)


def by_hand(data, forget):
    """Real-time tuning with dense Jacobians, after Franceschi et al. (2017), algorithm 2 with updates in between.

    The state is (w, m), Z its derivative in (penalty, rate, momentum); the free scale is differentiated by the chain rule.
    """
    space = Space(SPACE)
    region, theta = space.region(), space.init()

    def step(state, hyper):
        w, m = jnp.split(state, 2)
        gradient = data[0].T @ (data[0] @ w - data[1]) / len(data[1]) + hyper[0] * w
        m = hyper[2] * m + gradient
        return jnp.concatenate([w - hyper[1] * m, m])

    state, Z, path = jnp.zeros(20), jnp.zeros((20, 3)), []
    in_state, in_hyper = jax.jit(jax.jacobian(step)), jax.jit(jax.jacobian(step, argnums=1))
    slope = jax.grad(lambda state: validation(state[:10], None, data))
    for _ in range(UPDATES):
        hyper = space.hyper(theta)
        flat = jnp.array([hyper[name] for name in SPACE])
        Z = jnp.zeros_like(Z) if forget else Z
        for _ in range(STEPS):
            Z = in_state(state, flat) @ Z + in_hyper(state, flat)
            state = step(state, flat)
        path.append(theta)
        gradient = dict(zip(SPACE, np.array(slope(state) @ Z), strict=True))
        theta = np.clip(theta - RATE * space.pull_back(gradient, hyper), region.low, region.high)
    return np.array(path), float(validation(state[:10], None, data))


@pytest.mark.parametrize(
    ("method", "forget"),
    [
        (Forward(heavy_ball, STEPS), False),
        (Forward(heavy_ball, STEPS, window=STEPS), True),
        (Reverse(heavy_ball, STEPS), True),
    ],
    ids=["real-time", "forgetting", "online truncated reverse"],
)
def test_online_forms_are_the_loops_of_the_papers(method, forget, data):
    with jax.enable_x64(True):
        path, last = by_hand(data, forget)
    found = tune(PROBLEM, method, RULE, SPACE, data, restart=False, max_steps=UPDATES)
    np.testing.assert_allclose([e.theta for e in found.trace], path, rtol=1e-10, atol=1e-10)
    assert found.trace[-1].value == pytest.approx(last, rel=1e-12)
    assert found.status is Status.max_steps


def test_what_an_online_run_returns_belongs_together(data):
    found = tune(PROBLEM, Forward(heavy_ball, STEPS), RULE, SPACE, data, restart=False, max_steps=230)
    assert len(found.trace) == 230
    assert found.value == min(e.value for e in found.trace)
    assert float(validation(np.array(found.params), None, data)) == pytest.approx(found.value, rel=1e-6)


def test_updates_that_begin_anew_are_those_of_the_plain_hypergradient(data):
    method = Reverse(heavy_ball, 20)
    found = tune(PROBLEM, method, RULE, SPACE, data, max_steps=4)
    space = Space(SPACE)
    theta = space.init()
    with jax.enable_x64(True):
        evaluate = value_and_hypergrad(PROBLEM, method)
        for evaluation in found.trace:
            np.testing.assert_allclose(evaluation.theta, theta, rtol=1e-12)
            hyper = space.hyper(theta)
            value, gradient = evaluate(hyper, data)
            assert evaluation.value == pytest.approx(float(value), rel=1e-12)
            theta = np.clip(theta - RATE * space.pull_back(gradient, hyper), *space.region())


def test_a_single_loop_comes_to_the_optimum(data):
    one_step = Implicit(GradientDescent(0.3), tol=1e-6, max_steps=1, linear_solver=ConjugateGradient(max_steps=1))
    space = {"penalty": SPACE["penalty"]}
    exact = tune(PROBLEM, Implicit(), LBFGSB(), space, data)
    found = tune(PROBLEM, one_step, FirstOrder(optax.sgd(5.0)), space, data, max_steps=1500)
    assert all(e.inner_steps == 1 for e in found.trace)
    assert np.log(found.hyper["penalty"]) == pytest.approx(np.log(exact.hyper["penalty"]), abs=1e-3)
    assert found.value == pytest.approx(exact.value, rel=1e-6)


@pytest.mark.parametrize("method", [Reverse(heavy_ball, 20), Forward(heavy_ball, 20)], ids=["reverse", "forward"])
def test_every_hyperparameter_has_the_gradient_of_its_own_objective(method, data):
    hyper = {"penalty": 0.3, "rate": 0.05, "momentum": 0.4}
    with jax.enable_x64(True):
        value, both = value_and_hypergrad(APART, method)(hyper, data)
        held, of_validation = value_and_hypergrad(PROBLEM, method)(hyper, data)
        _, of_training = value_and_hypergrad(Problem(inner, training, zeros), method)(hyper, data)
    assert value == held
    assert both["penalty"] == pytest.approx(float(of_validation["penalty"]), rel=1e-12)
    assert both["rate"] == pytest.approx(float(of_training["rate"]), rel=1e-12)
    assert both["momentum"] == pytest.approx(float(of_training["momentum"]), rel=1e-12)


def test_several_objectives_run_online_and_refuse_what_descends_one(data):
    found = tune(APART, Forward(heavy_ball, 2), RULE, SPACE, data, restart=False, max_steps=50)
    assert found.value < found.trace[0].value
    with pytest.raises(ValueError, match="take FirstOrder"):
        tune(APART, Forward(heavy_ball, 20), LBFGSB(), SPACE, data)
    with pytest.raises(ValueError, match="outer says nothing of 'momentum'"):
        tune(
            Problem(inner, {"penalty": validation, "rate": training}, zeros), Forward(heavy_ball, 2), RULE, SPACE, data
        )
    unused = Problem(
        inner, {"penalty": lambda w, hyper, data: jnp.sum(w), "rate": training, "momentum": training}, zeros
    )
    with pytest.raises(ValueError, match="Implicit has no derivative with respect to 'momentum', 'rate'"):
        tune(unused, Implicit(), RULE, SPACE, data)


def test_a_rate_that_diverges_is_taken_back(data):
    fast = {**SPACE, "rate": Real(1e-3, 100.0, init=2e-3)}
    leap = FirstOrder(optax.sgd(100.0))
    found = tune(PROBLEM, Forward(heavy_ball, 400), leap, fast, data, restart=False, max_steps=40)
    reasons = [e.reason for e in found.trace]
    assert "not finite" in reasons
    assert reasons[-1] == "online"
    assert np.isfinite(found.value)
    never = {**SPACE, "rate": Real(50.0, 100.0)}
    lost = tune(PROBLEM, Forward(heavy_ball, 400), leap, never, data, restart=False, max_steps=40)
    assert lost.status is Status.inner_failed
    assert np.isnan(lost.value)
    assert np.isnan(lost.gradient["rate"])
