"""The imports follow the arrows of the design and no others."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skhypergrad"

# each module or folder with all that it may import from the package
ARROWS = {
    "exceptions": set(),
    "prediction": set(),
    "steps": set(),
    "bilevel.losses": set(),
    "bilevel.penalties": set(),
    "bilevel.region": set(),
    "bilevel.space": {"bilevel.region"},
    "bilevel.solution": set(),
    "bilevel.matrices": set(),
    "bilevel.problem": set(),
    "bilevel.criteria": {"bilevel.losses"},
    "bilevel.gram": set(),
    "bilevel.models": {"bilevel.losses", "bilevel.penalties", "bilevel.gram", "bilevel.matrices", "bilevel.problem"},
    "bilevel.grouped": {"bilevel.criteria", "bilevel.gram", "bilevel.models", "bilevel.problem"},
    "bilevel.compiling": set(),
    "bilevel.compile_cache": set(),
    "bilevel.folds": {"bilevel.matrices"},
    "bilevel.networks": {"bilevel.losses", "bilevel.problem", "bilevel.solvers"},
    "bilevel.lessons": {"bilevel.networks"},
    "bilevel.epochs": {"bilevel.networks"},
    "bilevel.linear_solvers": {"bilevel.problem"},
    "bilevel.solvers": {"bilevel.problem", "bilevel.linear_solvers"},
    "bilevel.hypergradients": {
        "bilevel.compiling",
        "bilevel.problem",
        "bilevel.linear_solvers",
        "bilevel.solvers",
    },
    "bilevel.optimizers": {"bilevel.solution", "bilevel.region"},
    "bilevel.tune": {
        "bilevel.compiling",
        "bilevel.problem",
        "bilevel.solution",
        "bilevel.space",
        "bilevel.optimizers",
        "bilevel.hypergradients",
    },
    "bilevel": {"bilevel"},
    "adapters": {"bilevel", "exceptions"},
    "model_selection": {"adapters", "bilevel", "exceptions"},
    "linear_model": {"adapters", "bilevel", "model_selection", "prediction", "steps"},
    "neural_network": {"adapters", "bilevel", "model_selection", "prediction", "steps"},
    "display": {"adapters", "bilevel", "exceptions", "model_selection"},
    "tracking": {"adapters", "bilevel"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def home(dotted: str) -> str:
    """The longest entry of ARROWS that contains a module."""
    parts = dotted.split(".")
    while parts and ".".join(parts) not in ARROWS:
        parts.pop()
    return ".".join(parts)


def imports(path: Path) -> set[str]:
    """Everything a module imports, as dotted names; functions' imports included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path):
    dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")
    if not dotted:
        assert not imports(path) - {"importlib"}, "importing the package must import nothing"
        return
    own = home(dotted)
    assert own, f"{dotted} has no place in the design"
    for name in imports(path):
        if not name.startswith("skhypergrad"):
            continue
        other = home(name.removeprefix("skhypergrad").removeprefix("."))
        allowed = {own, *ARROWS[own]}
        assert any(other == a or ((other.startswith(a + ".") and a != "bilevel") or a == other) for a in allowed) or (
            "bilevel" in allowed and other.startswith("bilevel")
        ), f"{dotted} imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "bilevel").rglob("*.py")), ids=lambda p: p.name)
def test_the_engine_never_imports_scikit_learn(path):
    assert not {name for name in imports(path) if name.split(".")[0] == "sklearn"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_private_names_are_imported_in_one_place(path):
    if path.name == "_compat.py":
        return
    foreign = {name for name in imports(path) if not name.startswith("skhypergrad")}
    private = {
        name for name in foreign if any(part.startswith("_") and part != "__future__" for part in name.split("."))
    }
    assert private <= {"sklearn.utils._safe_indexing"}, "scikit-learn documents _safe_indexing as public"
