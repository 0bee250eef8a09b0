"""Losses and criteria are scikit-learn's metrics, and weights mean repetition."""

import catalogue
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from sklearn import metrics

from skhypergrad.bilevel import criteria, losses, penalties

N = 12


def rows(function, rng):
    """raw, y for a loss or criterion, with several outputs where it takes them."""
    several = function in (losses.multinomial,) or "several" in str(function)
    raw = rng.normal(size=(N, 3 if several else 1)) * 2
    if function in (losses.squared, criteria.squared_error, criteria.root_squared_error, criteria.r2):
        return rng.normal(size=(N, 2)), rng.normal(size=(N, 2))
    if raw.shape[1] == 1:
        return raw, rng.integers(0, 2, (N, 1)).astype(float)
    return raw, np.eye(3)[rng.integers(0, 3, N)]


@pytest.mark.parametrize("loss", catalogue.LOSSES, ids=catalogue.name)
def test_loss_agrees_with_its_formula_in_the_extremes(loss, rng):
    raw, y = rows(loss, rng)
    with jax.enable_x64(True):
        for scale in (1e-8, 1.0, 1e3):
            value = np.array(loss(jnp.asarray(raw * scale), jnp.asarray(y)))
            gradient = np.array(jax.grad(lambda r: jnp.sum(loss(r, y)))(jnp.asarray(raw * scale)))
            assert np.isfinite(value).all()
            assert np.isfinite(gradient).all()
            if loss is losses.squared:
                np.testing.assert_allclose(value, ((raw * scale - y) ** 2).sum(axis=1) / 2)


@pytest.mark.parametrize("loss", losses.CURVATURES, ids=catalogue.name)
def test_the_curvature_is_the_diagonal_of_the_second_derivative(loss, rng):
    raw, y = rows(loss, rng)
    with jax.enable_x64(True):
        one_row = jax.hessian(lambda raw, y: loss(raw[None], y[None])[0])
        matrices = jax.vmap(one_row)(jnp.asarray(raw), jnp.asarray(y))
        curvature = losses.CURVATURES[loss](jnp.asarray(raw))
    np.testing.assert_allclose(curvature, np.diagonal(matrices, axis1=1, axis2=2), rtol=1e-13)


@pytest.mark.parametrize("several", [False, True])
def test_log_loss_and_brier_are_scikit_learns(several, rng):
    weight = rng.random(N)
    code = np.arange(N) % (3 if several else 2)
    raw = 3 * rng.normal(size=(N, 3 if several else 1))
    raw[0] = [60.0, -60.0, 0.0] if several else [-60.0]  # certain: probabilities that scikit-learn clips
    code[0] = 1
    y = np.eye(3)[code] if several else code[:, None].astype(float)
    shifted = raw - raw.max(axis=1, keepdims=True)
    probability = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True) if several else 1 / (1 + np.exp(-raw))
    if not several:
        probability = np.column_stack([1 - probability, probability])
    variance = np.zeros(raw.shape[1])
    with jax.enable_x64(True):
        ours = float(criteria.log_loss(jnp.asarray(raw), jnp.asarray(y), jnp.asarray(weight), variance))
        brier = float(criteria.brier(jnp.asarray(raw), jnp.asarray(y), jnp.asarray(weight), variance))
    assert ours == pytest.approx(metrics.log_loss(code, probability, sample_weight=weight), rel=1e-9)
    binary = probability if several else probability[:, 1]
    assert brier == pytest.approx(metrics.brier_score_loss(code, binary, sample_weight=weight), rel=1e-9)


def test_regression_criteria_are_scikit_learns(rng):
    raw, y, weight = rng.normal(size=(N, 2)), rng.normal(size=(N, 2)), rng.random(N)
    variance = np.average((y - np.average(y, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    oracles = {
        criteria.squared_error: metrics.mean_squared_error(y, raw, sample_weight=weight),
        criteria.root_squared_error: metrics.root_mean_squared_error(y, raw, sample_weight=weight),
        criteria.r2: -metrics.r2_score(y, raw, sample_weight=weight),
    }
    with jax.enable_x64(True):
        for criterion, oracle in oracles.items():
            value = criterion(jnp.asarray(raw), jnp.asarray(y), jnp.asarray(weight), jnp.asarray(variance))
            assert float(value) == pytest.approx(oracle, rel=1e-12)


def test_a_constant_target_has_a_finite_r2_and_gradient():
    y, weight, variance = jnp.ones((4, 1)), jnp.ones(4), jnp.zeros(1)
    value, gradient = jax.value_and_grad(criteria.r2)(2 * y, y, weight, variance)
    assert float(value) == 0.0
    assert np.isfinite(gradient).all()
    assert metrics.r2_score(np.ones(4), 2 * np.ones(4)) == 0.0


def test_an_exact_fit_has_a_finite_root_and_gradient():
    y, weight, variance = jnp.ones((4, 1)), jnp.ones(4), jnp.ones(1)
    value, gradient = jax.value_and_grad(criteria.root_squared_error)(y, y, weight, variance)
    assert float(value) == 0.0
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("criterion", catalogue.CRITERIA, ids=catalogue.name)
def test_weight_two_is_the_row_twice_and_weight_zero_is_no_row(criterion, rng):
    raw, y = rows(criterion, rng)
    variance = np.ones(y.shape[1])
    weight = np.ones(N)
    weight[0], weight[1] = 2, 0
    index = [0, 0, *range(2, N)]
    with jax.enable_x64(True):
        weighted = criterion(jnp.asarray(raw), jnp.asarray(y), jnp.asarray(weight), variance)
        repeated = criterion(jnp.asarray(raw[index]), jnp.asarray(y[index]), jnp.ones(N), variance)
    assert float(weighted) == pytest.approx(float(repeated), rel=1e-13)


def test_the_ridge_penalty_takes_strengths_of_every_shape(rng):
    coef = rng.normal(size=(4, 3))
    for strength in (2.0, rng.random(3), rng.random((4, 1))):
        assert float(penalties.ridge(coef, strength)) == pytest.approx(np.sum(strength * coef**2) / 2, rel=1e-6)


@pytest.mark.parametrize("x", [-40.0, -3.0, -1e-9, 0.0, 1e-9, 3.0, 40.0, 800.0])
def test_log_losses_keep_the_digits_of_a_small_loss(x):
    """Value, slope and curvature against mpmath where the label is the likely one, and where it is not."""
    with jax.enable_x64(True), mp.workdps(50):
        for y in (0.0, 1.0):
            exact = mp.log1p(mp.exp(-mp.mpf(x))) if y else mp.log1p(mp.exp(mp.mpf(x)))
            p = 1 / (1 + mp.exp(-mp.mpf(x)))
            expected = [
                exact,
                -1 / (1 + mp.exp(mp.mpf(x))) if y else p,
                mp.exp(-abs(mp.mpf(x))) / (1 + mp.exp(-abs(mp.mpf(x)))) ** 2,
            ]

            def two(x, y=y):
                return losses.logistic(x[None], jnp.array([y]))

            def several(x, y=y):
                return losses.multinomial(jnp.array([0.0, 1.0]) * x, jnp.array([1 - y, y]))

            for loss in (two, several):
                at = jnp.asarray(x)
                got = [loss(at), jax.grad(loss)(at), jax.grad(jax.grad(loss))(at)]
                for own, true in zip(got, expected, strict=True):
                    # a slope of several classes is a difference of probabilities
                    slack = 0.0 if loss is two else 1e-15
                    assert float(own) == pytest.approx(float(true), rel=1e-14, abs=slack)


@pytest.mark.parametrize("n", [1, 8, 11])
def test_a_weighted_sum_is_one_of_any_number_of_rows_and_in_both_precisions(n, rng):
    weight, loss = rng.random(n), rng.random(n)
    with jax.enable_x64(True):
        value, gradients = jax.value_and_grad(losses.weighted, (0, 1))(jnp.asarray(weight), jnp.asarray(loss))
        rough = losses.weighted(jnp.asarray(weight, jnp.float32), jnp.asarray(loss, jnp.float32))
    assert float(value) == pytest.approx(weight @ loss, rel=1e-14)
    np.testing.assert_allclose(gradients, (loss, weight), rtol=1e-14)
    assert rough.dtype == jnp.float32
    assert float(rough) == pytest.approx(weight @ loss, rel=1e-6)


def test_the_multinomial_loss_is_differentiated_in_its_labels(rng):
    raw, y = rng.normal(size=(4, 3)), rng.dirichlet(np.ones(3), 4)
    with jax.enable_x64(True):
        gradient = jax.grad(lambda y: losses.multinomial(raw, y).sum())(jnp.asarray(y))
    np.testing.assert_allclose(gradient, -raw)
