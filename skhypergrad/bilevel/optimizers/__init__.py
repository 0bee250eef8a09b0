"""Outer optimizers: they see an oracle on the free scale, never a problem.

    minimize(oracle, theta, region, budget) -> Status        oracle(theta, carry, tol) -> Answer
                                                             oracle.together(thetas, tol) -> Answers
                                                             oracle.follow(rule, theta, ...) -> Path
                                                             oracle.at_once, points that cost little more than one

The oracle records every evaluation; the point that is returned is chosen from that record by `tune`.
"""

from skhypergrad.bilevel.optimizers.first_order import FirstOrder
from skhypergrad.bilevel.optimizers.hoag import HOAG
from skhypergrad.bilevel.optimizers.lbfgsb import LBFGSB
from skhypergrad.bilevel.optimizers.oracle import Answer, Budget, Path, Stop, Visit
from skhypergrad.bilevel.optimizers.real_time import RealTime
from skhypergrad.bilevel.optimizers.sweep import Sweep

__all__ = ["HOAG", "LBFGSB", "Answer", "Budget", "FirstOrder", "Path", "RealTime", "Stop", "Sweep", "Visit"]
