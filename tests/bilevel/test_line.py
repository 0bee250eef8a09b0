"""Descents along one coordinate."""

import numpy as np

from skhypergrad.bilevel import Status
from skhypergrad.bilevel.optimizers import line
from skhypergrad.bilevel.optimizers.oracle import Answer


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
