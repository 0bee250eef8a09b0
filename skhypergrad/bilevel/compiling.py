"""How the programs of the package are compiled: like `jax.jit`, and faster where XLA lets us."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

# The newer emitters take half as long again for the loops of a solver, and a third of that is LLVM's higher levels; what they
# make of them is no faster.
QUICKLY = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}


@functools.cache
def options() -> dict[str, Any]:
    """Those of `QUICKLY`, where this version of XLA has them; asked for on first use, since it begins with a backend."""
    try:
        jax.jit(lambda: 0, compiler_options=QUICKLY)()
    except jax.errors.JaxRuntimeError:
        return {}
    return QUICKLY


def compiled(function: Callable | None = None, **arguments) -> Callable:
    """Decorate a function as `jax.jit(function, **arguments)` does.

    Within another program, which has options of its own, it is a part of that. `alone()` is the program of its own.
    """
    if function is None:
        return functools.partial(compiled, **arguments)
    within = jax.jit(function, **arguments)

    @functools.cache
    def alone():
        return jax.jit(function, compiler_options=options(), **arguments)

    @functools.wraps(function)
    def call(*args, **kwargs):
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs)))
        return (within if traced else alone())(*args, **kwargs)

    call.alone = alone  # type: ignore[attr-defined]
    return call
