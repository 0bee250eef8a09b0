"""What a hypergradient rests on."""

from __future__ import annotations

from typing import Any, NamedTuple


class Evidence(NamedTuple):
    """The record of one hypergradient.

    Attributes
    ----------
    value : the task's outer objective
    inner_residual : |grad_w inner| of all rows, relative to the same at the starting weights. `Implicit` takes the dual
        norm of the preconditioner, and the root of twice the inner objective as reference where that is less.
    linear_residual : |H q - b| / |b| of the adjoint system, recomputed; 0 where there is none
    inner_steps, linear_steps : int
        Of an unrolled run, the steps up to the first that was not finite.
    correction : what the adjoint says the inner residual has moved the value by (and `Implicit` corrects it by), relative
        to the largest value so far; 0 where nothing is corrected
    products : int
        Of the inner Hessian with a vector, in the steps of `Newton` and in the adjoint system.
    """

    value: Any
    inner_residual: Any
    linear_residual: Any
    inner_steps: Any
    linear_steps: Any
    correction: Any
    products: Any = 0
