"""The one loop: an optimizer asks for points, a hypergradient answers, the best verified answer is returned."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skhypergrad.bilevel.compiling import LITTLE, compiled
from skhypergrad.bilevel.hypergradients import Several
from skhypergrad.bilevel.optimizers import Answer, Budget, Path, Stop, Visit
from skhypergrad.bilevel.optimizers.oracle import is_stationary, one_by_one
from skhypergrad.bilevel.problem import Problem
from skhypergrad.bilevel.solution import Evaluation, Interrupted, Solution, Status
from skhypergrad.bilevel.space import Real, Space

# Solved points whose solutions are kept as warm starts, and how far beyond two of them a third is predicted, in units of
# their distance.
KEPT = 16
REACH = 1.5

# Moves of an online run in one compiled program, and points of a `direct` method.
CHUNK = 100
AT_ONCE = 8

# Inner tolerance of the points that only a judge will look at, and their number over the whole interval.
SCOUT, LATTICE = 1e-5, 60


# Problems and shapes whose compiled programs are kept. Those of one take some 400 memory mappings, of which a process may
# have 65,530 on Linux: LLVM crashes at the next one.
PROGRAMS = 80
_compiled: list[None] = []


def _let_go() -> None:
    """Drop compiled programs when there are many: a process that lives long may meet any number of shapes."""
    if len(_compiled) >= PROGRAMS:
        _compiled.clear()
        # everybody's, not this module's alone: what cuts the folds is compiled for every shape, too
        jax.clear_caches()


@compiled(effort=LITTLE, static_argnums=(0, 1))
def _start(problem, axes, method, hyper, data):
    def begin(hyper, data):
        # while tracing, so once for each compilation, and with the shapes of one task
        _compiled.append(None)
        _check_seen(problem, method, hyper, data)
        return method.init(problem, hyper, data)

    return begin(hyper, data) if axes is None else jax.vmap(begin, in_axes=(None, axes))(hyper, data)


@compiled(static_argnums=(0, 1))
def _step(problem, axes, method, hyper, data, carry, tol, far=None, share=None):
    step = functools.partial(method.step, problem)
    if far is not None:
        carry = method.predict(carry, far, share)
    if axes is None:
        return step(hyper, data, carry, tol)
    value, gradient, carry = jax.vmap(step, in_axes=(None, axes, 0, None))(hyper, data, carry, tol)
    mean = functools.partial(jnp.mean, axis=0)
    return mean(value), jax.tree.map(mean, gradient), carry


@compiled(effort=LITTLE, static_argnums=(0, 1))
def _steps(problem, axes, method, hypers, data, carry, tol):
    """`_step` for many points, (n, ...) each hyperparameter."""
    return jax.vmap(lambda hyper: _step(problem, axes, method, hyper, data, carry, tol))(hypers)


@compiled(static_argnums=(0, 1, 2, 3, 4, 5, 6))
def _follow(problem, axes, space, rule, length, restart, tol, method, data, fresh, begin, steps):
    """`steps` moves, `length` at most: where they end, (value, number, params) of the best, and what every point answered."""
    region = space.region()

    def move(loop, i):
        theta, memory, carry, best = loop
        hyper = space.hyper(theta, jnp)
        value, gradient, new = _step(problem, axes, method, hyper, data, fresh if restart else carry, tol)
        gradient = space.pull_back(gradient, hyper, jnp)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        solved = finite & method.trusts(new.evidence, tol)
        best = _select(solved & (value < best[0]), (value, i, new.params), best)
        onward, memory = rule.move(theta, jnp.where(finite, gradient, jnp.nan), memory)
        loop = region.project(onward), memory, _select(finite, new, fresh), best
        return loop, (theta, value, gradient, finite, solved, new.evidence)

    def stay(loop, i):
        return loop, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(move, loop, i)[1])

    best = jnp.asarray(jnp.inf), jnp.asarray(0), fresh.params
    return jax.lax.scan(
        lambda loop, i: jax.lax.cond(i < steps, move, stay, loop, i), (*begin, best), jnp.arange(length)
    )


def _select(condition, new, old):
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), new, old)


def _with_objectives(problem, method):
    """The method, one for each objective where the problem has several."""
    return Several(method) if problem.has_several_objectives else method


def value_and_hypergrad(problem: Problem, method: Any, *, task_axes: Any = None) -> Callable:
    """Like `jax.value_and_grad`: a function of the hyperparameters that returns the outer objective and its gradient.

    Parameters
    ----------
    problem : Problem
    method : hypergradient, for instance `Implicit()`
    task_axes : hashable pytree like `data`, default=None
        Axis of each part of `data` that counts tasks, as in `jax.vmap`'s in_axes; None for one task. The value is the
        mean of the tasks'.

    Returns
    -------
    callable, (hyper, data=None) -> (value, gradient)
        `hyper` a dict of natural values, `gradient` a dict like it. Runs in JAX's current precision: enter
        `jax.enable_x64(True)` for float64.

    Raises
    ------
    ValueError
        By the function, when the method has no derivative with respect to a hyperparameter; it names those that have.

    Examples
    --------
    >>> import jax
    >>> problem = Problem(
    ...     inner=lambda w, hyper, data: (w - data) ** 2 / 2 + hyper["alpha"] * w**2 / 2,
    ...     outer=lambda w, hyper, data: (w - 1.0) ** 2,
    ...     init=lambda hyper, data: 0.0 * data,
    ... )
    >>> from skhypergrad.bilevel import Implicit
    >>> with jax.enable_x64(True):
    ...     value, gradient = value_and_hypergrad(problem, Implicit())({"alpha": 1.0}, 4.0)
    ...     print(value, gradient["alpha"])  # w = 4 / (1 + alpha) = 2, so 2 (w - 1) dw = -2
    1.0 -2.0
    """

    method = _with_objectives(problem, method)

    def evaluate(hyper, data=None):
        hyper = {name: jnp.asarray(value, float) for name, value in hyper.items()}
        data = jax.device_put(data)
        carry = _start(problem, task_axes, method, hyper, data)
        value, gradient, _ = _step(problem, task_axes, method, hyper, data, carry, method.tol)
        return value, gradient

    return evaluate


def _check_seen(problem, method, hyper, data):
    """Refuse a hyperparameter that the method has no derivative of: it would be a silent zero."""
    hyper, data = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (hyper, data))
    names = sorted(hyper)
    graph = jax.make_jaxpr(lambda hyper, data: method.visible(problem, hyper, data))(hyper, data).jaxpr
    leaves = [name for name in names for _ in jax.tree.leaves(hyper[name])]
    used = {id(v) for equation in graph.eqns for v in equation.invars} | {id(v) for v in graph.outvars}
    unseen = sorted({n for n, v in zip(leaves, graph.invars, strict=False) if id(v) not in used})
    if unseen:
        name = type(method.method if isinstance(method, Several) else method).__name__
        raise ValueError(
            f"{name} has no derivative with respect to {', '.join(map(repr, unseen))}: it sees "
            f"{method.sees}. Use it there, or leave it out; learning rates, momenta and starting weights are seen by "
            "Reverse and Forward."
        )


def tune(
    problem: Problem,
    method: Any,
    optimizer: Any,
    space: Space | Mapping[str, Real],
    data: Any = None,
    *,
    task_axes: Any = None,
    restart: bool | None = None,
    max_steps: int = 50,
    tol: float = 1e-4,
    judge: Callable | None = None,
    callback: Callable | None = None,
) -> Solution:
    """Minimise the outer objective over the hyperparameters.

    Parameters
    ----------
    problem : Problem
    method : hypergradient, for instance `Implicit()`
    optimizer : outer optimizer, for instance `LBFGSB()`
    space : Space, or dict of name to Real
    data : pytree of arrays, default=None
        Copied to the device; never written to.
    task_axes : hashable pytree like `data`, default=None
        As in `value_and_hypergrad`.
    restart : bool, default=None
        Whether every evaluation begins at the problem's starting weights. None for what the method is meant for: unrolled
        runs (`Reverse`, `Forward`) do, since where they begin is part of the result; `Implicit` begins at a neighbour's
        answer, which changes the cost and, within the tolerances, not the result. With False, an unrolled run goes on from
        where the last one ended, and so do the memories of its method: the online forms.
    max_steps : int, default=50
        Evaluations after the optimizer's starting points.
    tol : float, default=1e-4
        The search has converged when the projected hypergradient on the free scale is at most `tol` times the size of
        the criterion.
    judge : callable, params -> float, default=None
        What the returned point is chosen by, among the evaluated ones, where that is not the criterion: a loss that need
        not be smooth. The criterion is what is descended, and what decides between equals.
    callback : callable, (evaluation) -> bool, default=None
        Called after every evaluation; True ends the search. It may raise `Stop` with a status of its own.

    Returns
    -------
    Solution
        The best verified point: evaluated at the method's own tolerance with residuals it trusts, and no evaluated point
        better. Computed in float64. When no point could be verified, value is NaN and the status says so.

    Raises
    ------
    Interrupted (a KeyboardInterrupt)
        On Ctrl-C; its `solution` is the best verified point so far.
    """
    space = space if isinstance(space, Space) else Space(space)
    _check_optimizer(problem, optimizer, space)
    method = _with_objectives(problem, method)
    restart = method.restarts if restart is None else restart
    _let_go()
    with jax.enable_x64(True):
        search = _Search(problem, method, space, jax.device_put(data), task_axes, restart, judge, callback)
        try:
            budget = Budget(max_steps, tol, float(method.tol))
            status = optimizer.minimize(search, space.init(), space.region(), budget)
            search.scout()
        except Stop as stop:
            status = stop.status
        except KeyboardInterrupt:
            # a second one is in nobody's way
            raise Interrupted(search.conclude(Status.interrupted, tol, hurry=True)) from None
        return search.conclude(status, tol)


def _check_optimizer(problem, optimizer, space):
    """Refuse what an optimizer cannot do."""
    name = type(optimizer).__name__
    if space.region().sums and not optimizer.honours_sums:
        raise ValueError(f"{name} knows boxes only; for a budget or a total take FirstOrder or HOAG.")
    if problem.has_several_objectives and optimizer.needs_descent:
        raise ValueError(
            f"{name} needs one objective that its steps decrease; several outer objectives have none: take FirstOrder."
        )


class Guess(NamedTuple):
    """Where an evaluation begins: on the line from a carry to another, `share` of the way; None where there is no line."""

    near: Any
    far: Any
    share: Any


class Found(NamedTuple):
    """What an evaluation found at `hyper`; all but the carry is on the host."""

    hyper: dict
    value: Any
    gradient: dict
    evidence: Any
    carry: Any


def _floats(hyper: Mapping) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, float) for name, value in hyper.items()}


class _Search:
    """The oracle of one `tune`, and its record: evaluates, remembers, verifies."""

    def __init__(self, problem, method, space, data, axes, restart, judge, callback):
        self.problem, self.method, self.space = problem, method, space
        self.data, self.axes, self.restart = data, axes, restart
        self.judge, self.callback = judge, callback
        self.trace: list[Evaluation] = []
        self.direct = getattr(method, "direct", False)
        # points that are answered about as soon as one
        self.at_once = AT_ONCE if self.direct else 1
        # an unrolled run that goes on: what a point answers depends on when it is asked
        self.online = method.restarts and not restart and not self.direct
        self.carries: dict[bytes, Any] = {}
        # by the number of the evaluation
        self.params: dict[int, Any] = {}
        self.began = time.perf_counter()
        self.fresh = _start(problem, axes, method, _floats(space.hyper(space.init())), data)

    def __call__(self, theta, carry, tol) -> Answer:
        """Evaluate at theta; what fails is repeated from the starting weights, and what fails coarsely at full accuracy."""
        warm = carry is not None and not self.restart
        guess, reason = (self._guess(theta, carry), "warm") if warm else (self._cold, "cold")
        answer = self._evaluate(theta, guess, tol, reason)
        if warm and not answer.solved and not self.online:
            answer = self._evaluate(theta, self._cold, tol, "cold")
        if tol > self.method.tol and not answer.solved:
            answer = self._evaluate(theta, self._cold, self.method.tol, "refined")
        return answer

    def together(self, thetas, tol) -> list[Answer]:
        """What `__call__` says of each; a direct method is asked for many at once."""
        if not self.direct:
            return one_by_one(self, thetas, tol)
        answers: list[Answer] = []
        for i in range(0, len(thetas), AT_ONCE):
            batch = thetas[i : i + AT_ONCE]
            for theta, found in zip(batch, self._values(batch, tol), strict=True):
                answer = self._answer(theta, found, tol, "cold")
                answers.append(answer if answer.solved else self(theta, None, tol))
        return answers

    def _evaluate(self, theta, guess: Guess, tol, reason) -> Answer:
        if self.direct:
            (found,) = self._values([theta], tol)
            return self._answer(theta, found, tol, reason)
        hyper = self.space.hyper(theta)
        value, gradient, carry = _step(
            self.problem, self.axes, self.method, _floats(hyper), self.data, guess.near, np.float64(tol), *guess[1:]
        )
        value, gradient, evidence = jax.device_get((value, gradient, carry.evidence))
        return self._answer(theta, Found(hyper, value, gradient, evidence, carry), tol, reason)

    def _values(self, thetas, tol) -> list[Found]:
        """What `AT_ONCE` points at most come to; the program is the same for fewer."""
        hypers = [self.space.hyper(theta) for theta in thetas]
        padded = hypers + hypers[-1:] * (AT_ONCE - len(hypers))
        stacked = {name: np.stack([hyper[name] for hyper in padded]) for name in hypers[0]}
        found = _steps(self.problem, self.axes, self.method, stacked, self.data, self.fresh, np.float64(tol))
        leaves, structure = jax.tree.flatten(jax.device_get(found))
        apart = [jax.tree.unflatten(structure, [leaf[i] for leaf in leaves]) for i in range(len(hypers))]
        return [
            Found(hyper, value, gradient, carry.evidence, carry)
            for hyper, (value, gradient, carry) in zip(hypers, apart, strict=True)
        ]

    def _answer(self, theta, found: Found, tol, reason) -> Answer:
        """What was found at theta, checked, judged, recorded and remembered."""
        hyper, evidence, carry = found.hyper, found.evidence, found.carry
        value, gradient = float(found.value), self.space.pull_back(found.gradient, hyper)
        finite = np.isfinite(value) and np.all(np.isfinite(gradient))
        solved = bool(finite and self.method.trusts(evidence, tol))
        if solved and not self.restart and not self.online:
            self.carries[theta.tobytes()] = carry
            if len(self.carries) > KEPT:
                del self.carries[next(iter(self.carries))]
        judged = self._judgement(carry.params) if solved else float("nan")
        if solved and tol <= self.method.tol:
            if self.online:
                # those of the best so far are enough
                self.params = {i: p for i, p in self.params.items() if self.trace[i].rank <= (judged, value)}
            self.params[len(self.trace)] = carry.params
        seconds = time.perf_counter() - self.began
        self._record(theta, hyper, value, gradient, evidence, tol, seconds, finite, solved, reason, judged)
        return Answer(value=value, gradient=gradient, carry=carry, solved=solved)

    def follow(self, rule, theta, memory, carry, tol, steps) -> Path:
        """Moves of a rule: as many as may pass unseen, which is one where every evaluation begins anew or is judged."""
        alone = self.judge is not None or (self.restart and not self.direct)
        length = 1 if alone else CHUNK
        steps = min(steps, length)
        carry, began = self.fresh if carry is None else carry, time.perf_counter() - self.began
        (theta, memory, carry, best), answers = _follow(
            self.problem, self.axes, self.space, rule, length, self.restart, tol, self.method, self.data, self.fresh,
            (theta, memory, carry), steps,
        )  # fmt: skip
        (lowest, number), answers = jax.device_get((best[:2], answers))
        judged = self._judgement(best[2]) if np.isfinite(lowest) else 0.0
        if np.isfinite(lowest):
            if length > 1:
                # those of the best so far are enough
                self.params = {i: params for i, params in self.params.items() if self.trace[i].value <= lowest}
            self.params[len(self.trace) + int(number)] = best[2]
        seconds = np.linspace(began, time.perf_counter() - self.began, steps + 1)[1:]
        visits = []
        for i in range(steps):
            place, value, gradient, finite, solved, evidence = jax.tree.map(lambda x, i=i: x[i], answers)
            visits.append(Visit(place, float(value), gradient, bool(solved)))
            why = "restart" if self.restart else "online"
            hyper = self.space.hyper(place)
            self._record(place, hyper, float(value), gradient, evidence, tol, seconds[i], finite, solved, why, judged)
        return Path(theta, memory, carry, visits)

    def _record(self, theta, hyper, value, gradient, evidence, tol, seconds, finite, solved, reason, judged):
        """Add a row to the trace, and show it."""
        evaluation = Evaluation(
            hyper=hyper,
            theta=np.array(theta, float),
            value=value,
            gradient=gradient,
            tasks=np.atleast_1d(np.asarray(evidence.value, float)),
            inner_residual=float(np.max(evidence.inner_residual)),
            linear_residual=float(np.max(evidence.linear_residual)),
            inner_steps=int(np.max(evidence.inner_steps)),
            linear_steps=int(np.max(evidence.linear_steps)),
            products=int(np.max(evidence.products)),
            tol=float(tol),
            seconds=float(seconds),
            solved=bool(solved),
            reason=reason if solved else "residuals" if finite else "not finite",
            judged=judged if solved else float("nan"),
        )
        self.trace.append(evaluation)
        if self.callback is not None and self.callback(evaluation):
            raise Stop(Status.interrupted)

    def _judgement(self, params) -> float:
        return 0.0 if self.judge is None else self.judge(params)

    def scout(self) -> None:
        """With a judge and one coordinate: look more closely around the point it prefers, which need not be a minimum.

        Twice, both gaps to the nearest evaluated points are divided by four. Where many points are asked at once, a lattice
        over the whole interval comes first: a judge may prefer a place far from the minimum.
        """
        if self.judge is None or len(self.space.init()) > 1:
            return
        if self.direct:
            (low,), (high,) = self.space.region()
            self.together(np.linspace(low, high, LATTICE)[:, None], SCOUT)
        for _ in range(2):
            solved = [e for e in self.trace if e.solved]
            if not solved:
                return
            best = min(solved, key=lambda e: e.rank).theta[0]
            places = np.unique([e.theta[0] for e in solved])
            ends = (*places[places < best][-1:], *places[places > best][:1])
            self.together([np.array([theta]) for end in ends for theta in np.linspace(best, end, 5)[1:-1]], SCOUT)

    def _nearest(self, theta) -> list[np.ndarray]:
        """Where solutions are kept, the nearest first."""
        return sorted((np.frombuffer(key) for key in self.carries), key=lambda x: np.max(np.abs(x - theta)))

    @property
    def _cold(self) -> Guess:
        return self._guess(None, self.fresh)

    def _near(self, theta) -> Guess:
        """What the nearest kept solutions predict, else the starting weights."""
        return self._guess(theta, self.fresh)

    def _guess(self, theta, carry) -> Guess:
        """`carry`, or what the nearest kept solutions predict where the method can tell.

        Along one coordinate two of them do so by a straight line; it saves a Newton step or two.
        """
        if not hasattr(self.method, "predict"):
            return Guess(carry, None, None)
        if theta is None or not self.carries:
            return Guess(carry, carry, np.float64(0.0))
        theta = np.asarray(theta, float)
        places = self._nearest(theta)
        near = self.carries[places[0].tobytes()]
        if len(theta) == 1 and len(places) > 1:
            share = (theta[0] - places[0][0]) / (places[1][0] - places[0][0])
            if abs(share) <= REACH:
                return Guess(near, self.carries[places[1].tobytes()], share)
        return Guess(near, near, np.float64(0.0))

    def conclude(self, status: Status, tol: float, hurry: bool = False) -> Solution:
        """The best point, evaluated once more at the method's own tolerance; the next best where that refutes it.

        In a hurry the best of those that have been verified already, if there are any.
        """
        self.callback = None
        refused: set[int] = set()
        while True:
            left = {i: e for i, e in enumerate(self.trace) if e.solved and i not in refused}
            if not self.online:
                # of several evaluations of one point the last is the most accurate
                last = {e.theta.tobytes(): i for i, e in left.items()}
                left = {i: left[i] for i in last.values()}
            if not left:
                return self._nothing()
            if hurry:
                left = {i: left[i] for i in left.keys() & self.params.keys()} or left
            number, best = min(left.items(), key=lambda item: item[1].rank)
            if number in self.params:
                return self._solution(best, self.params[number], status, tol)
            answer = self._evaluate(best.theta, self._near(best.theta), self.method.tol, "verification")
            if not answer.solved:
                refused |= {i for i, e in enumerate(self.trace) if np.array_equal(e.theta, best.theta)}

    def _solution(self, best: Evaluation, params, status: Status, tol: float) -> Solution:
        return Solution(
            hyper=best.hyper,
            # on the host: outside of this function JAX may have another precision
            params=jax.device_get(params),
            value=best.value,
            gradient=self.space.natural(best.gradient, best.hyper),
            status=self._status(best, status, tol),
            trace=self.trace,
        )

    def _nothing(self) -> Solution:
        hyper = self.space.hyper(self.space.init())
        nan = {name: np.full(np.shape(value), np.nan) for name, value in hyper.items()}
        return Solution(hyper, None, float("nan"), nan, Status.inner_failed, self.trace)

    def _status(self, best: Evaluation, status: Status, tol: float) -> Status:
        if self.online or status in (Status.timeout, Status.interrupted, Status.flat, Status.swept):
            return status
        region = self.space.region()
        values = [e.value for e in self.trace if e.solved]
        if is_stationary(best.theta, best.value, best.gradient, region, tol, values):
            return Status.boundary if np.any(at_bound(best.theta, best.gradient, region)) else Status.converged
        if self.judge is not None:
            return Status.judged
        return status if status in (Status.max_steps, Status.resolved, Status.inner_failed) else Status.stalled


def at_bound(theta, gradient, region) -> np.ndarray:
    """-1, 0 or 1 for every coordinate: at its lower bound, inside, at its upper one, with no descent back inside."""
    low, high = region
    near = 1e-9 * np.maximum(high - low, 1e-300)
    lower = (theta - low <= near) & (gradient >= 0)
    upper = (high - theta <= near) & (gradient <= 0)
    return upper.astype(int) - lower.astype(int)
