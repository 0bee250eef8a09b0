"""Descents along two and three coordinates, of oracles that answer several points at once."""

import itertools

import numpy as np
import pytest
import scipy.optimize

from skhypergrad.bilevel import LBFGSB, Answer, Budget, Status
from skhypergrad.bilevel.optimizers import trust_region
from skhypergrad.bilevel.region import Region


class Together:
    """A function with its gradient, asked for eight points at most, one of which may be refused."""

    at_once = 8

    def __init__(self, function, refuse=lambda theta: False):
        self.function, self.refuse, self.batches = function, refuse, []

    def together(self, thetas, tol):
        self.batches.append(np.array(thetas))
        return [self._answer(theta) for theta in thetas]

    def _answer(self, theta):
        value, gradient = self.function(np.asarray(theta))
        return Answer(float(value), gradient, None, not self.refuse(theta))

    @property
    def points(self):
        return np.concatenate(self.batches)

    @property
    def lowest(self):
        return min(self.function(point)[0] for point in self.points)


def box(size):
    return Region(np.full(size, -9.0), np.full(size, 9.0))


def bowl(theta):
    weight = np.arange(1, theta.size + 1)
    return 3 + weight @ (theta - 0.7) ** 2, 2 * weight * (theta - 0.7)


def rosenbrock(theta):
    return 1 + scipy.optimize.rosen(theta), scipy.optimize.rosen_der(theta)


def ripples(theta):
    """A minimum every 2 pi along every coordinate, the deepest on the left."""
    return 5 + np.sum(0.05 * theta + np.cos(theta)), 0.05 - np.sin(theta)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("convex", [True, False])
def test_a_quadratic_is_least_where_no_other_point_of_the_box_is_lower(size, convex):
    rng = np.random.default_rng(size)
    faces = set()
    for _ in range(40):
        root = rng.normal(size=(size, size))
        hessian = root @ root.T if convex else root + root.T
        gradient, low, high = rng.normal(size=size), -rng.uniform(0, 2, size), rng.uniform(0, 2, size)
        step, gain = trust_region.least(gradient, hessian, low, high)
        assert ((low <= step) & (step <= high)).all()
        lattice = np.array(list(itertools.product(*np.linspace(low, high, 41).T)))
        values = lattice @ gradient + np.einsum("ij,jk,ik->i", lattice, hessian, lattice) / 2
        assert -gain == pytest.approx(gradient @ step + step @ hessian @ step / 2, abs=1e-12)
        assert -gain <= values.min() + 1e-12
        # not lower than there is
        assert -gain >= values.min() - 0.05 * np.abs(hessian).sum() - 0.05 * np.abs(gradient).sum()
        faces.add(int(np.sum((step > low) & (step < high))))
    assert len(faces) > 1


def test_a_singular_model_is_minimised_too():
    step, gain = trust_region.least(np.array([1.0, 0.0]), np.zeros((2, 2)), np.full(2, -2.0), np.full(2, 2.0))
    assert step[0] == -2
    assert gain == 2


@pytest.mark.parametrize("size", [2, 3])
def test_a_quadratic_takes_one_step(size):
    oracle = Together(bowl)
    assert LBFGSB(first_step=9.0).minimize(oracle, np.zeros(size), box(size), Budget(50, 1e-6)) is Status.converged
    steps = oracle.batches[1:]
    assert len(steps) == 2
    assert {len(batch) for batch in steps} == {size + 1}
    np.testing.assert_allclose(steps[1][0], 0.7, atol=1e-7)


def test_a_curved_valley_is_followed_to_its_end():
    oracle = Together(rosenbrock)
    assert LBFGSB(n_starts=1).minimize(oracle, np.array([-1.2, 1.0]), box(2), Budget(200, 1e-8)) is Status.converged
    assert oracle.lowest == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("start", [-9.0, 0.0, 9.0])
def test_the_best_of_several_basins_is_found_and_none_is_descended_twice(start):
    oracle = Together(ripples)
    LBFGSB().minimize(oracle, np.full(2, start), box(2), Budget(50, 1e-6))
    line = np.linspace(-9, 9, 4001)
    assert oracle.lowest == pytest.approx(5 + 2 * np.min(0.05 * line + np.cos(line)), abs=1e-5)
    ends = [batch[0] for batch in oracle.batches[1:] if np.max(np.abs(ripples(batch[0])[1])) < 1e-5]
    assert all(np.max(np.abs(a - b)) > 1 for a, b in itertools.combinations(ends, 2))


@pytest.mark.parametrize("size", [2, 3])
def test_minima_on_the_bounds_are_found_and_no_point_lies_outside(size):
    region = Region(np.full(size, 1.0), np.array([2.0, 9.0, 9.0])[:size])
    oracle = Together(bowl)
    assert LBFGSB().minimize(oracle, np.full(size, 1.5), region, Budget(50, 1e-6)) is Status.converged
    assert (oracle.points >= region.low).all()
    assert (oracle.points <= region.high).all()
    assert oracle.lowest == bowl(region.low)[0]


def test_differences_stay_inside_a_box_that_is_narrower_than_they_are():
    region = Region(np.array([0.0, -9.0]), np.array([1e-5, 9.0]))
    oracle = Together(bowl)
    assert LBFGSB().minimize(oracle, np.array([5e-6, 0.0]), region, Budget(50, 1e-6)) is Status.converged
    assert (oracle.points >= region.low).all()
    assert (oracle.points <= region.high).all()
    assert oracle.lowest == pytest.approx(bowl(np.array([1e-5, 0.7]))[0], abs=1e-9)


def test_a_step_into_what_cannot_be_solved_is_taken_back():
    # flat away from the minimum, so that a model leads far beyond it
    leap, budget = LBFGSB(n_starts=1, first_step=8.0), Budget(90, 1e-6)
    oracle = Together(lambda x: (np.sum(np.logaddexp(x - 1, 1 - x)), np.tanh(x - 1)), lambda x: np.max(x) > 2)
    assert leap.minimize(oracle, np.full(2, -2.0), box(2), budget) is Status.converged
    assert any(oracle.refuse(point) for point in oracle.points)
    nowhere = Together(bowl, lambda x: np.max(x) > -3.999)
    assert leap.minimize(nowhere, np.full(2, -4.0), box(2), budget) is Status.inner_failed
    beside = Together(bowl, lambda x: x[1] > -4.0)
    assert leap.minimize(beside, np.full(2, -4.0), box(2), budget) is Status.inner_failed


@pytest.mark.parametrize(("budget", "options", "status"), [
    (Budget(2, 1e-6), {}, Status.max_steps),
    (Budget(8, 1e-9), {}, Status.max_steps),
    (Budget(50, 1e-12), {"resolution": 0.5}, Status.resolved),
])  # fmt: skip
def test_why_a_descent_ends(budget, options, status):
    oracle = Together(rosenbrock)
    found = LBFGSB(n_starts=1, **options).minimize(oracle, np.array([-1.2, 1.0]), box(2), budget)
    assert found is status
    assert len(oracle.points) <= 1 + budget.max_steps
