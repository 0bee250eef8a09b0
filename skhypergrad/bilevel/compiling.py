"""How the programs of the package are compiled: like `jax.jit`, and faster where XLA lets us."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

# On CPU, LLVM takes most of the time, for each of a solver's many loops. The newer emitters take half as long again; sums of
# less than some thousand numbers need no tree of loops (larger ones are a library's); neither makes anything faster.
QUICKLY = {"xla_cpu_use_fusion_emitters": False, "xla_disable_hlo_passes": "tree_reduction_rewriter"}

# What LLVM makes of loops at its higher levels takes a third of the time and is no faster. At level 0 it takes half of what
# it does at level 1, and loops take twice as long or more: right for programs of matrix products, or that run once.
EFFORT, LITTLE = 1, 0


@functools.cache
def options(effort: int) -> dict[str, Any]:
    """What is asked of XLA, where this version of it knows all that. On first use, since it begins with a backend."""
    if jax.default_backend() != "cpu":
        return {}
    asked = QUICKLY | {"xla_backend_optimization_level": effort}
    try:
        jax.jit(lambda: 0, compiler_options=asked)()
    except jax.errors.JaxRuntimeError:
        return {}
    return asked


def compiled(function: Callable | None = None, *, effort: int = EFFORT, **arguments) -> Callable:
    """Decorate a function as `jax.jit(function, **arguments)` does.

    Within another program, which has options of its own, it is a part of that. `alone()` is the program of its own.
    """
    if function is None:
        return functools.partial(compiled, effort=effort, **arguments)
    within = jax.jit(function, **arguments)

    @functools.cache
    def alone():
        return jax.jit(function, compiler_options=options(effort), **arguments)

    @functools.wraps(function)
    def call(*args, **kwargs):
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs)))
        return (within if traced else alone())(*args, **kwargs)

    call.alone = alone  # type: ignore[attr-defined]
    return call
