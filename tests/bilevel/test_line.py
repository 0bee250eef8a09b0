"""Descents along one coordinate."""

import numpy as np
import pytest

from skhypergrad.bilevel import LBFGSB, Status
from skhypergrad.bilevel.optimizers import line
from skhypergrad.bilevel.optimizers.oracle import Answer, Budget
from skhypergrad.bilevel.region import Region


def oracle(theta, carry, tol):
    (x,) = theta
    return Answer(np.cos(3 * x), np.array([-3 * np.sin(3 * x)]), np.zeros(2), True)


def test_a_basin_is_found_although_its_end_was_evaluated_again():
    points = [line.Point(x, oracle([x], None, 0), coarse=True) for x in np.linspace(0.0, 4.0, 9)]
    second = line.basins(points)[1]
    # what an earlier descent does to a coarse end that it comes to
    points[points.index(second[0])] = line.Point(second[0].x, oracle([second[0].x], None, 0))
    status, _ = line.descend(oracle, points, second, 1e-6, 1e-8, 1e-9, 50)
    assert status is Status.converged
    assert min(abs(p.x - np.pi) for p in points) < 1e-6 or min(abs(p.x - np.pi / 3) for p in points) < 1e-6


def test_a_basin_between_starts_is_found_by_halving_the_gaps_beside_the_best():
    # wide around 1 and deeper, but narrow, around 3.2; starts at 0, 2 and so on
    def two_basins(theta, carry, tol):
        (x,) = theta
        deep = -2.0 * np.exp(-((x - 3.2) ** 2) / 0.05)
        slope = 0.2 * (x - 1.0) - deep * 2 * (x - 3.2) / 0.05
        return Answer(0.1 * (x - 1.0) ** 2 + deep, np.array([slope]), None, True)

    region, budget = Region(np.array([0.0]), np.array([8.0])), Budget(50, 1e-6)
    seen = {}
    for halvings in (0, 3):
        seen[halvings] = []

        def recorded(theta, carry, tol, visits=seen[halvings]):
            answer = two_basins(theta, carry, tol)
            visits.append((answer.value, float(theta[0])))
            return answer

        LBFGSB(n_starts=5, halvings=halvings).minimize(recorded, np.array([4.0]), region, budget)
    assert min(seen[0])[0] > -0.5
    assert min(seen[3])[1] == pytest.approx(3.2, abs=0.02)


@pytest.mark.parametrize("minimum", [3.5, 4.5])
def test_a_coarse_slope_at_the_end_hides_no_minimum(minimum):
    # downhill all the way, say the starts; at 4, the end, the first accurate answer may tell otherwise
    visits = []

    def misleading(theta, carry, tol):
        (x,) = theta
        slope = 2 * (x - minimum) if tol < 1e-3 else -1.0
        visits.append((float(x), tol))
        return Answer((x - minimum) ** 2, np.array([slope]), None, True)

    region = Region(np.array([0.0]), np.array([4.0]))
    status = LBFGSB(n_starts=5).minimize(misleading, np.array([2.0]), region, Budget(50, 1e-6))
    assert status is (Status.converged if minimum < 4 else Status.boundary)
    assert any(abs(x - min(minimum, 4.0)) < 1e-5 and tol <= 1e-6 for x, tol in visits)
