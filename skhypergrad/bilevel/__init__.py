"""The engine: bilevel problems in pure JAX, usable without scikit-learn."""

from skhypergrad.bilevel.hypergradients import Evidence, Forward, Implicit, Reverse, Several
from skhypergrad.bilevel.linear_solvers import (
    ConjugateGradient,
    Direct,
    FixedPoint,
    LinearSolution,
    Neumann,
    NormalConjugateGradient,
    Preconditioner,
)
from skhypergrad.bilevel.models import LinearModel, LinearParams, held_out
from skhypergrad.bilevel.optimizers import HOAG, LBFGSB, Answer, Budget, FirstOrder, Path, RealTime, Stop, Sweep, Visit
from skhypergrad.bilevel.problem import Problem
from skhypergrad.bilevel.solution import Evaluation, Interrupted, Solution, Status
from skhypergrad.bilevel.solvers import LBFGS, Adam, ClosedForm, GradientDescent, Momentum, Nesterov, Newton, Optax
from skhypergrad.bilevel.space import Real, Space
from skhypergrad.bilevel.tune import tune, value_and_hypergrad

__all__ = [
    "HOAG",
    "LBFGS",
    "LBFGSB",
    "Adam",
    "Answer",
    "Budget",
    "ClosedForm",
    "ConjugateGradient",
    "Direct",
    "Evaluation",
    "Evidence",
    "FirstOrder",
    "FixedPoint",
    "Forward",
    "GradientDescent",
    "Implicit",
    "Interrupted",
    "LinearModel",
    "LinearParams",
    "LinearSolution",
    "Momentum",
    "Nesterov",
    "Neumann",
    "Newton",
    "NormalConjugateGradient",
    "Optax",
    "Path",
    "Preconditioner",
    "Problem",
    "Real",
    "RealTime",
    "Reverse",
    "Several",
    "Solution",
    "Space",
    "Status",
    "Stop",
    "Sweep",
    "Visit",
    "held_out",
    "tune",
    "value_and_hypergrad",
]
