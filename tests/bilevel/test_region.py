"""The projection onto a box with bounds on sums obeys its laws, and slopes tell what can be descended."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from skhypergrad.bilevel import HOAG, LBFGSB, Direct, FirstOrder, Implicit, Newton, Problem, Real, Space, tune

SUMS = {
    "box": {},
    "budget that binds": {"budget": 1.5},
    "budget that is idle": {"budget": 5.9},
    "total": {"total": 2.0},
    "total in a corner": {"total": 6.0},
}


def space(**sums):
    return Space({"rest": Real(1e-2, 1e2), "weight": Real(0, 1, scale="linear", shape=(6,), **sums)})


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=SUMS.values(), ids=SUMS)
def region(request):
    return space(**request.param).region()


def points(region, rng, size=40):
    return rng.normal(0, 12, size=(size, len(region.low)))


def is_inside(region, p):
    sums = all(least - 1e-9 <= p[a:b].sum() <= most + 1e-9 for a, b, least, most in region.sums)
    return sums and (p >= region.low).all() and (p <= region.high).all()


def test_the_projection_is_feasible_and_nearest(region, rng):
    inside = [np.array(region.project(x)) for x in points(region, rng)]
    assert all(is_inside(region, p) for p in inside)
    for x in points(region, rng, 10):
        p = np.array(region.project(x))
        # the obtuse angle that marks the nearest point of a convex set
        assert max((x - p) @ (q - p) for q in inside) <= 1e-9 * (1 + x @ x)


def test_the_projection_keeps_what_is_inside_and_never_expands(region, rng):
    for x, y in zip(points(region, rng), points(region, rng), strict=True):
        p, q = np.array(region.project(x)), np.array(region.project(y))
        np.testing.assert_allclose(region.project(p), p, atol=1e-12)
        assert np.linalg.norm(p - q) <= np.linalg.norm(x - y) * (1 + 1e-12)


def test_the_slope_vanishes_exactly_where_no_feasible_step_descends(region, rng):
    gradient = rng.normal(size=len(region.low))
    with_steps = np.array(region.low + region.high) / 2
    for _ in range(2000):
        with_steps = np.array(region.project(with_steps - gradient))
    np.testing.assert_allclose(region.slope(with_steps, gradient), 0, atol=1e-7)
    inside = np.array(region.project((region.low + region.high) / 2))
    step = 1e-3 * region.slope(inside, gradient)
    assert is_inside(region, inside - step)
    assert gradient @ step > 0 or not step.any()


def test_an_infinite_gradient_has_no_slope_to_be_trusted(region):
    gradient = np.full(len(region.low), np.nan)
    assert np.isnan(region.slope((region.low + region.high) / 2, gradient)).all()


@pytest.mark.parametrize(
    ("real", "message"),
    [
        (Real(1e-3, 1, shape=(3,), budget=1), "linear"),
        (Real(0, 1, scale="linear", shape=(3,), budget=1, total=1), "total alone"),
        (Real(0, 1, scale="linear", shape=(3,), budget=-1), "between"),
        (Real(0, 1, scale="linear", shape=(3,), total=3.5), "between"),
    ],
)
def test_sums_that_cannot_be_are_refused_by_name(real, message):
    with pytest.raises(ValueError, match=message) as error:
        Space({"weight": real})
    assert "'weight'" in str(error.value)


def test_sums_are_those_of_the_natural_scale(rng):
    shifted = Space({"weight": Real(-2, 3, scale="linear", shape=(5,), total=1.0)})
    theta = shifted.region().project(rng.normal(size=5))
    assert shifted.hyper(theta)["weight"].sum() == pytest.approx(1.0, abs=1e-12)
    assert shifted.hyper(shifted.init())["weight"].sum() == pytest.approx(1.0, abs=1e-12)


def spend(w, hyper, data):
    return jnp.sum((w - hyper["weight"]) ** 2) / 2


def regret(w, hyper, data):
    return jnp.sum((w - data) ** 2)


@pytest.mark.parametrize("optimizer", [HOAG("exact"), FirstOrder(optax.sgd(20.0))], ids=["HOAG", "FirstOrder"])
@pytest.mark.parametrize("sums", [{"budget": 1.5}, {"total": 1.8}], ids=repr)
def test_a_search_ends_at_the_projection_of_what_it_would_like(optimizer, sums):
    problem = Problem(spend, regret, lambda hyper, data: jnp.zeros(6))
    wish = np.array([0.9, -0.5, 0.7, 1.4, 0.1, 0.2])
    boxed = {"weight": Real(0, 1, scale="linear", shape=(6,), **sums)}
    found = tune(problem, Implicit(Newton(Direct())), optimizer, boxed, wish, max_steps=400, tol=1e-5)
    region = Space(boxed).region()
    np.testing.assert_allclose(found.hyper["weight"] * 10, region.project(wish * 10), atol=5e-3)
    assert found.status.name in ("converged", "boundary")


def test_every_budget_is_kept_one_search_after_the_other():
    problem = Problem(spend, regret, lambda hyper, data: jnp.zeros(6))
    optimizer = FirstOrder(optax.sgd(20.0))
    for budget in (1.0, 2.0, 3.0):
        boxed = {"weight": Real(0, 1, "linear", (6,), budget=budget)}
        found = tune(problem, Implicit(Newton(Direct())), optimizer, boxed, np.ones(6), max_steps=50)
        assert found.hyper["weight"].sum() == pytest.approx(budget, abs=1e-9)


def test_an_optimizer_that_knows_boxes_only_says_so():
    problem = Problem(spend, regret, lambda hyper, data: jnp.zeros(6))
    with pytest.raises(ValueError, match="FirstOrder or HOAG"):
        tune(problem, Implicit(), LBFGSB(), {"weight": Real(0, 1, "linear", (6,), budget=2.0)}, np.ones(6))
