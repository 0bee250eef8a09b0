"""Bijections go there and back, keep the order, and never leave the box."""

import numpy as np
import pytest

from skhypergrad import Real
from skhypergrad.bilevel import Space

SPACE = Space({"alpha": Real(1e-4, 1e4), "mix": Real(-1.0, 3.0, scale="linear"), "per": Real(0.1, 10, shape=(2,))})


def test_there_and_back(rng):
    low, high = SPACE.region()
    for theta in rng.uniform(low, high, size=(20, 4)):
        np.testing.assert_allclose(SPACE.theta(SPACE.hyper(theta)), theta, atol=1e-12)


def test_bounds_are_hit_exactly():
    low, high = SPACE.region()
    assert SPACE.hyper(low)["alpha"] == 1e-4
    assert SPACE.hyper(high)["alpha"] == 1e4
    assert SPACE.hyper(high + 1)["mix"] == 3.0
    assert (SPACE.hyper(low - 1)["per"] == 0.1).all()


def test_the_chain_rule_is_the_difference_quotient(rng):
    theta = rng.uniform(*SPACE.region())
    hyper = SPACE.hyper(theta)
    slopes = SPACE.pull_back({name: np.ones(np.shape(v)) for name, v in hyper.items()}, hyper)
    for i in range(4):
        step = np.eye(4)[i] * 1e-6
        up, down = (np.concatenate([np.ravel(v) for v in SPACE.hyper(theta + s).values()]) for s in (step, -step))
        assert (up - down)[i] / 2e-6 == pytest.approx(slopes[i], rel=1e-6)


def test_natural_undoes_pull_back(rng):
    hyper = SPACE.hyper(rng.uniform(*SPACE.region()))
    gradient = {name: rng.normal(size=np.shape(v)) for name, v in hyper.items()}
    for name, back in SPACE.natural(SPACE.pull_back(gradient, hyper), hyper).items():
        np.testing.assert_allclose(back, gradient[name], rtol=1e-12)


def test_names_and_indices_follow_the_vector():
    assert SPACE.coordinates() == [("alpha", ()), ("mix", ()), ("per", (0,)), ("per", (1,))]


def test_init_is_the_middle_or_what_was_given():
    space = Space({"alpha": Real(1e-4, 1e4), "C": Real(1e-2, 1e2, init=10.0)})
    hyper = space.hyper(space.init())
    assert hyper["alpha"] == pytest.approx(1.0)
    assert hyper["C"] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("real", "message"),
    [
        (Real(2, 1), "low < high"),
        (Real(1, 1), "low < high"),
        (Real(0, 1), "positive on the log scale"),
        (Real(-1, 1), "positive on the log scale"),
        (Real(float("nan"), 1), "finite"),
        (Real(1, float("inf")), "finite"),
        (Real(1, 2, scale="cubic"), "'log' or 'linear'"),
        (Real(1, 2, init=3.0), "init"),
        (Real(1, 2, shape=(2,), init=np.ones(3)), "shape"),
    ],
)
def test_unusable_boxes_are_refused_by_name(real, message):
    with pytest.raises(ValueError, match=message) as error:
        Space({"alpha": real})
    assert "'alpha'" in str(error.value)
