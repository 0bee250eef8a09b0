"""Fixtures for every test: nothing global may be touched."""

import os

# one thread: with two, OpenBLAS spends most of the time of small problems waiting for the other
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import warnings

import jax
import numpy as np
import pytest

# plugins for processes of their own: importing one changes scikit-learn
collect_ignore = ["borrowed"]


@pytest.fixture(autouse=True)
def nothing_global_is_touched():
    """NumPy's global generator, JAX's precision flag, the environment and the warning filters stay as they were."""
    state, flag, environment = np.random.get_state()[1].copy(), jax.config.jax_enable_x64, dict(os.environ)
    filters = list(warnings.filters)
    yield
    assert (np.random.get_state()[1] == state).all()
    assert jax.config.jax_enable_x64 == flag
    # pytest itself writes the name of the running test
    changed = {k for k in set(os.environ) ^ set(environment) if not k.startswith("PYTEST_")}
    assert not changed
    assert warnings.filters == filters


@pytest.fixture(autouse=True, scope="module")
def programs_are_let_go():
    """Thousands of compiled programs in one process would crash it (see `bilevel.tune.PROGRAMS`)."""
    yield
    jax.clear_caches()


@pytest.fixture
def rng():
    return np.random.default_rng(0)
