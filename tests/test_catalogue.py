"""Nothing joins the engine without an entry in the catalogue."""

import inspect

import catalogue
import pytest

from skhypergrad import bilevel
from skhypergrad.bilevel import criteria, hypergradients, linear_solvers, losses, optimizers, solvers


def functions_of(module):
    return {f for name, f in inspect.getmembers(module, inspect.isfunction) if not name.startswith("_")}


def strategies_of(module):
    # a strategy is a public class that does something; states and answers are tuples
    return {c for c in map(module.__dict__.get, module.__all__) if not issubclass(c, (tuple, Exception))}


@pytest.mark.parametrize(
    ("listed", "public"),
    [
        (set(catalogue.LOSSES), functions_of(losses)),
        (set(catalogue.CRITERIA), functions_of(criteria)),
        (
            {
                type(x)
                for x in catalogue.LINEAR_SOLVERS
                + catalogue.SLOW_LINEAR_SOLVERS
                + catalogue.LINEAR_SOLVERS_BY_THE_INVERSE
            },
            strategies_of(linear_solvers),
        ),
        (
            {type(x) for x in catalogue.SOLVERS + catalogue.SOLVERS_BY_THE_INVERSE}
            | {type(make(0.1, 0.5)) for make in catalogue.UNROLLABLE.values()},
            strategies_of(solvers),
        ),
        (
            {type(x) for x in catalogue.HYPERGRADIENTS + catalogue.COMPOSED} | set(catalogue.UNROLLED),
            strategies_of(hypergradients),
        ),
        ({type(x) for x in catalogue.OPTIMIZERS + catalogue.LOOKING}, strategies_of(optimizers)),
    ],
    ids=["losses", "criteria", "linear solvers", "solvers", "hypergradients", "optimizers"],
)
def test_everything_public_is_listed(listed, public):
    assert listed == public


def test_every_public_name_of_the_engine_exists():
    assert all(hasattr(bilevel, name) for name in bilevel.__all__)
