"""Time and error of one hypergradient, side by side: the modes of this package, jaxopt's, and `jax.grad` through a loop.

    python examples/benchmarks/hypergradients.py                       all cases, and the memory of the largest
    python examples/benchmarks/hypergradients.py ridge-1 logistic-100  some cases
    python examples/benchmarks/hypergradients.py --plot errors.png     draws error against time, too

Ridge and logistic regression on 10,000 rows with 100 features. The hyperparameters are one penalty (1), a penalty for each
feature (100), or a weight for each row (10,000). All are taken where the penalties are 0.01 and the weights 1, so that one
and the same fit is differentiated, and only the number of derivatives differs.

setting  the relative tolerance of implicit modes, which means something else to each; the number of steps of unrolled ones;
         for the window, of those that are differentiated, the last of 400
error    |g - g*| / |g*|, with g* from a direct solve in numpy at the exact optimum
warm     seconds of one hypergradient: value and gradient, from the starting weights, as one compiled program
alone    seconds of its inner solve, as many steps of the same solver, and of the outer objective, without a derivative
ratio    warm / alone, of one turn
cold     seconds of compiling and of the first call; one program serves all tolerances
temp     MB of temporaries in XLA's plan of the program

Every case runs in a process of its own, in which all programs take turns; the medians of the turns are told. For the memory
every program has a process of its own: `resident` is how far its first call raises the resident set, at the peak (Linux).
The unrolled modes run gradient descent. Here Reverse keeps what every step needs, or checkpoints (else `memory` decides).
jaxopt is optional (pip install jaxopt): its L-BFGS, with conjugate gradients.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from skhypergrad.bilevel import LBFGS, Forward, GradientDescent, Implicit, Newton, Problem, Reverse

try:
    with warnings.catch_warnings():
        # it is no longer maintained, and says so
        warnings.simplefilter("ignore", DeprecationWarning)
        import jaxopt
    missing = ""
except Exception as error:  # beside a newer JAX its import may fail in any way
    jaxopt, missing = None, f"without jaxopt: {type(error).__name__}, {error}"

ROWS, FEATURES, PENALTY, KEEP = 10_000, 100, 0.01, 1 << 40
CASES = [f"{model}-{count}" for model in ("ridge", "logistic") for count in (1, FEATURES, ROWS)]
TOLERANCES, STEPS, WINDOWS = (1e-2, 1e-4, 1e-8, 1e-12), (50, 100, 200, 400), (50, 100, 200)


def fit(loss):
    def inner(w, hyper, data):
        X, y, _, _ = data
        penalty = jnp.sum(hyper.get("penalty", PENALTY) * w**2) / 2
        return jnp.mean(hyper.get("weight", 1.0) * loss(X @ w, y)) + penalty

    def outer(w, hyper, data):
        _, _, X, y = data
        return jnp.mean(loss(X @ w, y))

    return Problem(inner, outer, init=lambda hyper, data: jnp.zeros(FEATURES))


PROBLEMS = {"ridge": fit(lambda m, y: (m - y) ** 2 / 2), "logistic": fit(lambda m, y: jax.nn.softplus(-y * m))}


def make(model):
    """Training and validation rows, and a safe learning rate: one over the largest curvature."""
    rng = np.random.default_rng(0)
    scale, w = np.geomspace(1, 0.2, FEATURES), rng.normal(size=FEATURES)
    X, Xv = (rng.normal(size=(ROWS, FEATURES)) * scale for _ in range(2))
    y, yv = (Z @ w + rng.normal(size=ROWS) for Z in (X, Xv))
    largest = np.linalg.eigvalsh(X.T @ X / ROWS)[-1]
    if model == "ridge":
        return (X, y, Xv, yv), 1 / (largest + PENALTY)
    return (X, np.sign(y), Xv, np.sign(yv)), 1 / (largest / 4 + PENALTY)


def reference(model, count, data):
    """The hypergradient at the exact optimum: Newton's steps, of which ridge needs one, and a direct solve."""
    X, y, Xv, yv = data

    def slope(m, y):
        return m - y if model == "ridge" else -y * expit(-y * m)

    w = np.zeros(FEATURES)
    for _ in range(12):
        m = X @ w
        gradient = X.T @ slope(m, y) / ROWS + PENALTY * w
        curvature = np.ones(ROWS) if model == "ridge" else expit(m) * expit(-m)
        hessian = (X.T * curvature) @ X / ROWS + PENALTY * np.eye(FEATURES)
        w = w - np.linalg.solve(hessian, gradient)
    assert np.linalg.norm(gradient) < 1e-12
    q = np.linalg.solve(hessian, Xv.T @ slope(Xv @ w, yv) / ROWS)
    return {1: -np.dot(w, q), FEATURES: -w * q, ROWS: -slope(m, y) * (X @ q) / ROWS}[count]


def run_alone(problem, solver):
    def program(steps, hyper, data):
        state = solver.init(problem, hyper, data, problem.init(hyper, data))
        state = jax.lax.fori_loop(0, steps, lambda _, state: solver.step(problem, hyper, data, state), state)
        return problem.outer(solver.params(state), hyper, data)

    return program


def ours(problem, method_at):
    """What `value_and_hypergrad` runs, with the number of inner steps from its evidence."""

    def program(setting, hyper, data):
        method = method_at(setting)
        value, gradient, carry = method.step(problem, hyper, data, method.init(problem, hyper, data))
        return value, gradient, carry.evidence.inner_steps

    return program


def plain(problem, rate, steps):
    """`jax.grad` through gradient descent, as one would write it."""

    def run(hyper, data):
        def step(w, _):
            return w - rate * jax.grad(problem.inner)(w, hyper, data), None

        w, _ = jax.lax.scan(step, problem.init(hyper, data), None, length=steps)
        return problem.outer(w, hyper, data)

    return lambda _, hyper, data: (*jax.value_and_grad(run)(hyper, data), steps)


def of_jaxopt(problem):
    """Both programs of jaxopt. Its tolerance is absolute: here, relative to the first gradient."""

    def alone(tol, hyper, data):
        w = problem.init(hyper, data)
        size = jax.lax.stop_gradient(jnp.linalg.norm(jax.grad(problem.inner)(w, hyper, data)))
        solve = functools.partial(jaxopt.linear_solve.solve_cg, tol=tol, maxiter=500)
        solver = jaxopt.LBFGS(problem.inner, tol=tol * size, maxiter=500, implicit_diff_solve=solve)
        return problem.outer(solver.run(w, hyper, data).params, hyper, data)

    return lambda tol, hyper, data: (*jax.value_and_grad(alone, argnums=1)(tol, hyper, data), tol), alone


def entries(model, count, rate):
    """(method, setting, program, inner solve alone) of all that is compared; a method's most accurate setting comes last.

    The programs are functions (setting, hyper, data) -> (value, gradient, n) and (n, hyper, data) -> value.
    """
    problem, descent, longest = PROBLEMS[model], GradientDescent(rate), STEPS[-1]
    for name, solver in (("Newton", Newton()), ("L-BFGS", LBFGS())):
        programs = ours(problem, lambda tol, solver=solver: Implicit(solver, tol=tol)), run_alone(problem, solver)
        yield from ((f"Implicit, {name}", tol, *programs) for tol in TOLERANCES)
    if jaxopt:
        programs = of_jaxopt(problem)
        yield from (("jaxopt, L-BFGS", tol, *programs) for tol in TOLERANCES)
    # a derivative at every step for each of 10,000 would take minutes
    forward = {1: STEPS, FEATURES: STEPS[:1], ROWS: ()}[count]
    unrolled = [
        *(("Reverse", steps, Reverse(descent, steps, memory=KEEP)) for steps in STEPS),
        ("Reverse, checkpointed", longest, Reverse(descent, longest, memory=1)),
        *(("Reverse, window", window, Reverse(descent, longest, window, KEEP)) for window in WINDOWS),
        *(("Forward", steps, Forward(descent, steps)) for steps in forward),
    ]
    alone = run_alone(problem, descent)
    for name, setting, method in unrolled:
        yield name, setting, ours(problem, lambda _, method=method: method), alone
    yield from (("jax.grad of a scan", steps, plain(problem, rate, steps), alone) for steps in STEPS)


def prepare(case):
    """Hyperparameters, data, entries and the exact hypergradient."""
    model, count = case.split("-")
    (data, rate), count = make(model), int(count)
    hyper = {"weight": np.ones(ROWS)} if count == ROWS else {"penalty": np.full(() if count == 1 else count, PENALTY)}
    todo, exact = list(entries(model, count, rate)), reference(model, count, data)
    return *jax.tree.map(jnp.asarray, (hyper, data)), todo, exact


def timed(run, *arguments):
    began = time.perf_counter()
    jax.block_until_ready(run(*arguments))
    return time.perf_counter() - began


def race(case, repeats):
    """One case, in this process: a list of rows."""
    hyper, data, todo, exact = prepare(case)
    compiled, rows, pairs = {}, [], []

    def build(program, setting):
        if program not in compiled:
            compiled[program] = jax.jit(program).lower(setting, hyper, data).compile()
        return compiled[program]

    for method, setting, program, alone in todo:
        shared, began, at = program in compiled, time.perf_counter(), jnp.asarray(setting)
        run = build(program, at)
        _, gradient, n = jax.block_until_ready(run(at, hyper, data))
        cold = "" if shared else f"{time.perf_counter() - began:.1f}"
        alone = build(alone, n)
        alone(n, hyper, data)
        pairs.append(((run, at), (alone, n)))
        error = float(np.linalg.norm(next(iter(gradient.values())) - exact) / np.linalg.norm(exact))
        temp = run.memory_analysis().temp_size_in_bytes / 1e6
        rows.append({"case": case, "method": method, "setting": setting, "error": error, "temp": temp, "cold": cold})
    turns = [[[timed(run, at, hyper, data) for run, at in pair] for pair in pairs] for _ in range(repeats)]
    warm, alone = np.moveaxis(turns, -1, 0)
    for row, *numbers in zip(rows, *np.median([warm, alone, warm / alone], axis=1).tolist(), strict=True):
        row |= dict(zip(("warm", "alone", "ratio"), numbers, strict=True))
    return rows


def weigh(case, method):
    """MB by which the first call of a method, at its most accurate, raises the resident set of this process at most."""
    hyper, data, todo, _ = prepare(case)
    setting, program = {name: (jnp.asarray(setting), program) for name, setting, program, _ in todo}[method]
    run = jax.jit(program).lower(setting, hyper, data).compile()

    def peak():
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1.024e-3

    # the peak begins anew
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    jax.block_until_ready(run(setting, hyper, data))
    return peak() - before


def child(*arguments):
    """What this script answers in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))} failed\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def draw(rows, cases, file):
    import matplotlib.pyplot as plt

    n, m = -(-len(cases) // 3), min(len(cases), 3)
    fig, axes = plt.subplots(n, m, sharex=True, sharey=True, squeeze=False, layout="constrained")
    fig.set_size_inches(4 * m, 3.5 * n + 1)
    methods = dict.fromkeys(row["method"] for row in rows)
    for ax, case in zip(axes.flat, cases, strict=False):
        ax.set(xscale="log", yscale="log", title="{}, hyperparameters: {}".format(*case.split("-")))
        for marker, method in zip("osD^vPX*", methods, strict=False):
            points = [(row["warm"], row["error"]) for row in rows if (row["case"], row["method"]) == (case, method)]
            ax.plot(*np.reshape(points, (-1, 2)).T, marker + "-", ms=6, lw=1.4, label=method)
    fig.supxlabel("one warm hypergradient (seconds)")
    fig.supylabel("relative error")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    fig.savefig(file, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all of {', '.join(CASES)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plot", metavar="FILE", help="draw error against time")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--weigh", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        jax.config.update("jax_enable_x64", True)
        print(json.dumps(weigh(options.one, options.weigh) if options.weigh else race(options.one, options.repeats)))
        return
    cases, rows = options.cases or CASES, []
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; {missing or 'with jaxopt'}")
    for case in cases:
        print(f"\n{case:24} setting    error    warm s   alone s   ratio   cold s  temp MB")
        for row in child("--one", case, "--repeats", options.repeats):
            line = "{method:24}{setting:8g}{error:9.0e}{warm:10.4f}{alone:10.4f}{ratio:8.2f}{cold:>9}{temp:9.1f}"
            print(line.format(**row), flush=True)
            rows.append(row)
    last = {(row["method"], row["case"]): row for row in rows}
    print(f"\n{'ratio, most accurate':24}" + "".join(f"{case:>15}" for case in cases))
    for method in dict.fromkeys(method for method, _ in last):
        ratios = (f"{last[method, case]['ratio']:.2f}" if (method, case) in last else "" for case in cases)
        print(f"{method:24}" + "".join(f"{ratio:>15}" for ratio in ratios))
    for case in (case for case in cases if case.endswith(f"-{ROWS}") and sys.platform == "linux"):
        print(f"\n{case + ', memory':24} setting  temp MB  resident MB")
        for row in (row for row in last.values() if row["case"] == case):
            resident = child("--one", case, "--weigh", row["method"])
            print("{method:24}{setting:8g}{temp:9.1f}".format(**row) + f"{resident:13.1f}", flush=True)
    if options.plot:
        draw(rows, cases, options.plot)


if __name__ == "__main__":
    main()
