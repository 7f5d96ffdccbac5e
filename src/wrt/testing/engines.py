"""Does an engine keep its contract? Every part of `wrt.engines.base.Engine`, against closed forms and differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.engines.base import Arrays, Capabilities, Engine, Facts, Function
from wrt.testing.scenarios import Namespace, Scenario, namespace, scenarios

VERBS = ("pull", "push", "map", "compile", "inspect", "push_problem", "trial", "owns", "is_traced", "carries_graph")
KINDS = ("is_out_of_memory", "free_memory", "asarray", "numpy", "dtype", "detach", "zeros", "zeros_like")
ARRAYS = ("unit", "gather", "top", "reshape", "moveaxis", "concatenate", "sum", "mean", "log_softmax")
CURVES = ("where", "exp", "log", "optimizer")


@dataclass(frozen=True)
class _Bench:
    """The engine under test, its namespace, and how exact it is."""

    engine: Engine
    module: Any
    xp: Namespace
    tolerance: float

    def put(self, *values: np.ndarray) -> Arrays:
        return [self.engine.asarray(np.asarray(v)) for v in values]

    def get(self, value: Any) -> np.ndarray:
        return np.asarray(self.engine.numpy(value))

    def same(self, found: Any, wanted: Any, what: str, tolerance: float | None = None) -> None:
        found, wanted = self.get(found), np.asarray(wanted)
        assert found.shape == wanted.shape, f"{what}: shape {found.shape}, expected {wanted.shape}"
        limit = (tolerance or self.tolerance) * max(1.0, float(np.abs(wanted).max(initial=0)))
        gap = np.abs(np.asarray(found, np.float64) - wanted)
        if gap.size and not gap.max() <= limit:  # NaN is no pass
            where = tuple(
                map(int, np.unravel_index(int(np.nanargmax(np.where(np.isnan(gap), np.inf, gap))), gap.shape))
            )
            raise AssertionError(
                f"{what}: entry {where} is {found[where]}, expected {wanted[where]} (allowed error {limit:.1e})"
            )


def check_engine(engine: Engine, module: Any = None, tolerance: float | None = None) -> None:
    """Run every part of the engine's protocol against what is known to be right.

    `module` holds the array library's `sin`, `exp` and `tanh` (not needed for the built-in engines); `tolerance` is
    relative to the largest entry, by default 1e-9 where the engine keeps float64 and 1e-4 where it does not.

    Raises:
        AssertionError: lists every part that fails, with what was found and what was expected.

    Example:
        >>> from wrt.engines import registry
        >>> from wrt.testing import check_engine
        >>> check_engine(registry.engine("reference"))
    """
    missing = [name for name in (*VERBS, *KINDS, *ARRAYS, *CURVES) if not callable(getattr(engine, name, None))]
    assert not missing, f"the engine lacks {', '.join(missing)}; see wrt.engines.base.Engine"
    if tolerance is None:
        tolerance = 1e-9 if engine.dtype(engine.asarray(np.zeros(1))) == "float64" else 1e-4
    bench = _Bench(engine, module, namespace(engine, module), tolerance)
    found = [problem for check in CHECKS if (problem := _problem(check, bench))]
    assert not found, f"engine {engine.name!r} breaks its contract:\n" + "\n".join(f"  {line}" for line in found)


def _problem(check: Callable[[_Bench], None], bench: _Bench) -> str:
    try:
        check(bench)
    except AssertionError as error:
        return str(error)
    except Exception as error:  # a check that cannot even run is a finding like any other
        return f"{check.__name__.removeprefix('_check_')}: raised {type(error).__name__}: {error}"
    return ""


def _listed(scenario: Scenario, bench: _Bench) -> Function:
    """The scenario as engines take functions: a list in, a list out."""
    function = scenario.on(bench.engine, bench.module)

    def f(arrays: Arrays) -> Arrays:
        y = function(*arrays)
        return list(y) if isinstance(y, tuple) else [y]

    return f


def _tangents(scenario: Scenario) -> list[np.ndarray]:
    return [np.cos(np.arange(a.size, dtype=float)).reshape(a.shape) for a in scenario.x]


def _cotangents(scenario: Scenario, blocks: list[list[np.ndarray]]) -> list[np.ndarray]:
    shapes = [row[0].shape[: row[0].ndim - scenario.x[0].ndim + 1] for row in blocks]
    return [np.sin(1.0 + np.arange(np.prod(s, dtype=int))).reshape(s) for s in shapes]


def _flat(block: np.ndarray, in_: np.ndarray) -> np.ndarray:
    count = int(np.prod(in_.shape[1:], dtype=int))
    return block.reshape(len(block), -1, count)


def _times(blocks: list[np.ndarray], tangents: list[np.ndarray], out: np.ndarray) -> np.ndarray:
    rows = [np.einsum("noi,ni->no", _flat(b, v), v.reshape(len(v), -1)) for b, v in zip(blocks, tangents, strict=True)]
    return sum(rows).reshape(out.shape)


def _transposed(column: list[np.ndarray], cotangents: list[np.ndarray], in_: np.ndarray) -> np.ndarray:
    parts = zip(column, cotangents, strict=True)
    return sum(np.einsum("noi,no->ni", _flat(b, in_), u.reshape(len(u), -1)) for b, u in parts).reshape(in_.shape)


def _check_capabilities(bench: _Bench) -> None:
    can = bench.engine.capabilities
    assert isinstance(can, Capabilities), f"capabilities: {type(can).__name__}, expected wrt.engines.base.Capabilities"
    assert isinstance(bench.engine.name, str), "name: expected a string"
    assert min(can.pull_cost, can.push_cost, can.unroll) > 0, "capabilities: costs and unroll must be positive"


def _check_push(bench: _Bench) -> None:
    for scenario in scenarios():
        blocks, tangents = scenario.jacobian(*scenario.x), _tangents(scenario)
        f, x = _listed(scenario, bench), bench.put(*scenario.x)
        y, dy = bench.engine.push(f, x, bench.put(*tangents))
        for j, (row, cotangent) in enumerate(zip(blocks, _cotangents(scenario, blocks), strict=True)):
            what = f"push of {scenario.name}, output {j}"
            bench.same(dy[j], _times(row, tangents, cotangent), what)
            bench.same(dy[j], _difference(bench, f, scenario, tangents, j), f"{what} (central differences)", 1e-2)
            bench.same(y[j], bench.get(f(x)[j]), f"value of push of {scenario.name}, output {j}")


def _difference(bench: _Bench, f: Function, scenario: Scenario, tangents: list[np.ndarray], j: int) -> np.ndarray:
    step = 1e-2  # wide enough for float32
    ends = [
        f(bench.put(*[a + sign * step * v for a, v in zip(scenario.x, tangents, strict=True)]))[j] for sign in (1, -1)
    ]
    return (bench.get(ends[0]).astype(np.float64) - bench.get(ends[1])) / (2 * step)


def _check_pull(bench: _Bench) -> None:
    for scenario in scenarios():
        blocks = scenario.jacobian(*scenario.x)
        cotangents = _cotangents(scenario, blocks)
        f, x = _listed(scenario, bench), bench.put(*scenario.x)
        y, back = bench.engine.pull(f, x)
        for attempt in ("first", "second"):  # `back` may be called as often as there are seeds
            for k, found in enumerate(back(bench.put(*cotangents))):
                wanted = _transposed([row[k] for row in blocks], cotangents, scenario.x[k])
                bench.same(found, wanted, f"pull of {scenario.name}, input {k}, {attempt} call")
        for found, value in zip(y, f(x), strict=True):
            bench.same(found, bench.get(value), f"value of pull of {scenario.name}")


def _check_disconnected(bench: _Bench) -> None:
    a, b = bench.put(np.ones((3, 2)), np.ones((3, 4)))
    _, back = bench.engine.pull(lambda p: [p[0] * 2.0], [a, b])
    grads = back([a])
    bench.same(grads[0], np.full((3, 2), 2.0), "pull")
    bench.same(grads[1], np.zeros((3, 4)), "pull: gradient of an input that is not used")


def _check_second_order(bench: _Bench) -> None:
    """A pull of a pull, and a push of a pull: what Hessians are made of."""
    tolerance = max(bench.tolerance, 1e-6)
    for scenario in scenarios():
        if scenario.hessian is None or scenario.x[0].ndim != 2:
            continue
        x, f = scenario.x[0], _listed(scenario, bench)
        hessian = scenario.hessian(x).reshape(len(x), -1, x.shape[1], x.shape[1]).sum(1)
        v = _tangents(scenario)[0]

        def gradient(p: Arrays, f: Function = f) -> Arrays:
            y, back = bench.engine.pull(f, p, True)
            return back([bench.engine.zeros_like(a) + 1.0 for a in y])

        wanted = np.einsum("nij,nj->ni", hessian, v)
        _, again = bench.engine.pull(gradient, bench.put(x))
        bench.same(again(bench.put(v))[0], wanted, f"pull of pull of {scenario.name}", tolerance)


def _check_map(bench: _Bench) -> None:
    base = np.arange(6.0).reshape(3, 2)
    (value,) = bench.put(base)

    def f(r: Any) -> Arrays:
        unit = bench.engine.unit(r, [value])[0]
        return [unit * value, value[:, 0] * 2.0]

    many = min(bench.engine.capabilities.unroll, 64) + 5
    for count, chunk in [(0, 1), (1, 1), (2, 1), (2, 2), (2, 3), (2, 64), (many, 1), (3 * many + 2, 3)]:
        rows = [np.where(np.arange(2) == r, base, 0.0) for r in range(count)]
        found = bench.engine.map(f, count, chunk)
        what = f"map over {count} seeds, {chunk} at a time"
        bench.same(found[0], np.reshape(rows, (count, 3, 2)), what)
        bench.same(found[1], np.tile(base[:, 0] * 2, (count, 1)), what)


def _check_compile(bench: _Bench) -> None:
    """The whole kernel inside a compiled function, run at two sizes; only where the engine says that it compiles."""
    if not bench.engine.capabilities.compiles:
        return
    traces = []
    scenario = next(s for s in scenarios() if s.name == "mlp")
    f = _listed(scenario, bench)

    def rows(x: Arrays) -> Arrays:
        traces.append(1)
        y, back = bench.engine.pull(f, x)
        columns = bench.engine.map(lambda r: bench.engine.push(f, x, bench.engine.unit(r, x))[1], 3, 2)
        return [*bench.engine.map(lambda r: back(bench.engine.unit(r, y)), 2, 1), *columns]

    compiled = bench.engine.compile(rows)
    for count in (5, 5, 2):
        x = scenario.samples(count)[0]
        wanted = scenario.jacobian(x)[0][0]
        pulled, pushed = compiled(bench.put(x))
        bench.same(pulled, np.moveaxis(wanted, 1, 0), f"compiled pulls, {count} samples")
        bench.same(pushed, np.moveaxis(wanted, 2, 0), f"compiled pushes, {count} samples")
        if count == 5:
            assert len(traces) == 1, "compile: the second call with the same shape was traced again"


def _check_inspect(bench: _Bench) -> None:
    def f(p: Arrays) -> Arrays:
        return [bench.xp.sin(p[0]), p[0][:, :1] * p[1] * 2.0]

    facts = bench.engine.inspect(f, bench.put(np.ones((2, 3)), np.ones((2, 4))))
    assert isinstance(facts, Facts), f"inspect: {type(facts).__name__}, expected wrt.engines.base.Facts"
    assert facts.shapes == ((2, 3), (2, 4)), f"inspect: shapes {facts.shapes}, expected ((2, 3), (2, 4))"
    wanted = ((True, False), (True, True))
    assert facts.connected == wanted, f"inspect: connected {facts.connected}, expected {wanted}"
    assert isinstance(facts.bytes, int), f"inspect: bytes {facts.bytes!r}, expected an integer"
    assert facts.bytes >= 0, f"inspect: bytes {facts.bytes}, expected none or more"


def _check_push_problem(bench: _Bench) -> None:
    for scenario in scenarios():
        problem = bench.engine.push_problem(_listed(scenario, bench), bench.put(*scenario.samples(2)))
        assert problem == "", f"push_problem of {scenario.name}: {problem!r}, expected '' because push is right there"


def _check_trial(bench: _Bench) -> None:
    (value,) = bench.put(np.array([[1.0, 2.0]]))
    found = bench.engine.trial(lambda p: [p[0] * 3.0], [value])
    assert found is not None, "trial: None, expected values where the arguments have values"
    bench.same(found[0], [[3.0, 6.0]], "trial")


def _check_unit(bench: _Bench) -> None:
    like = bench.put(np.zeros((3, 2)), np.zeros((3, 1, 2)), np.zeros(3))
    for r in range(5):
        flat = np.eye(5)[r]
        found = bench.engine.unit(r, like)
        wanted = [flat[:2], flat[2:4].reshape(1, 2), flat[4]]
        for part, row, leaf in zip(found, wanted, like, strict=True):
            bench.same(part, np.broadcast_to(row, leaf.shape), f"unit vector {r} of a space of 2 + 2 + 1")
            kinds = bench.engine.dtype(part), bench.engine.dtype(leaf)
            assert kinds[0] == kinds[1], f"unit: dtype {kinds[0]}, expected {kinds[1]}"


def _check_gather_and_top(bench: _Bench) -> None:
    rows = np.array([[3.0, 1.0, 2.0, 0.0], [-1.0, 5.0, 4.0, 6.0]])
    (value,) = bench.put(rows)
    for index in (np.array([2, 0]), np.array([[2, 0, 2], [1, 1, 3]])):
        wanted = np.take_along_axis(rows, index.reshape(2, -1), 1).reshape(index.shape)
        found = bench.engine.gather(value, bench.engine.asarray(index))
        bench.same(found, wanted, f"gather with an index of shape {index.shape}")
    for k in (1, 3):
        bench.same(bench.engine.top(value, k), np.argsort(-rows, axis=1)[:, :k], f"top {k}")


def _check_kinds(bench: _Bench) -> None:
    engine, (value,) = bench.engine, bench.put(np.ones((2, 3)))
    common = isinstance(value, np.ndarray)  # NumPy arrays belong to nobody
    assert engine.owns(value) is not common, f"owns: says {engine.owns(value)} of what asarray made"
    for stranger in (None, "text", 3, np.ones(2), [value]):
        assert not engine.owns(stranger), f"owns: claims a {type(stranger).__name__}"
    assert not engine.is_traced(value), "is_traced: says that a tensor with values has none"
    assert not engine.carries_graph(engine.detach(value)), "carries_graph: says so of a detached tensor"
    assert engine.is_out_of_memory(MemoryError()), "is_out_of_memory: does not know MemoryError"
    assert not engine.is_out_of_memory(ValueError("shapes differ")), "is_out_of_memory: takes a ValueError for one"
    free = engine.free_memory(value)
    assert free is None or free > 0, f"free_memory: {free!r}, expected a number of bytes or None"


def _check_conversion(bench: _Bench) -> None:
    engine = bench.engine
    host_only = isinstance(engine.asarray(np.ones(1)), np.ndarray)  # such an engine may compute in float64 throughout
    for dtype in ("float32", "int32", "float16"):
        value = engine.asarray(np.array([[1, 2, 3]]), dtype)
        allowed = {dtype, "float64"} if host_only and "float" in dtype else {dtype}
        assert engine.dtype(value) in allowed, f"asarray: dtype {engine.dtype(value)}, expected {dtype}"
        host = engine.numpy(value)
        assert isinstance(host, np.ndarray), f"numpy: {type(host).__name__}, expected numpy.ndarray"
        assert str(host.dtype) in allowed, f"numpy: dtype {host.dtype}, expected {dtype}"
    if not host_only:
        host = engine.numpy(engine.asarray(np.ones(2), "bfloat16"))
        assert host.dtype == np.float32, f"numpy: bfloat16 became {host.dtype}, expected float32"


def _check_verbs(bench: _Bench) -> None:
    engine, base = bench.engine, np.arange(24.0).reshape(2, 3, 4)
    (value,) = bench.put(base)
    bench.same(engine.reshape(value, (2, 12)), base.reshape(2, 12), "reshape")
    for source, target in [(0, 1), (0, 2), (2, 0), (1, 1)]:
        bench.same(engine.moveaxis(value, source, target), np.moveaxis(base, source, target), "moveaxis")
    for axis in (0, 1):
        bench.same(engine.concatenate([value, value], axis), np.concatenate([base, base], axis), "concatenate")
    bench.same(engine.zeros_like(value), np.zeros_like(base), "zeros_like")
    bench.same(engine.detach(value), base, "detach")
    for shape in ((), (5,), (4, 1)):
        zeros = engine.zeros(value, shape, "float32")
        bench.same(zeros, np.zeros((2, *shape)), f"zeros of shape {shape} per sample")
        assert engine.dtype(zeros) == "float32", f"zeros: dtype {engine.dtype(zeros)}, expected float32"


def _check_reductions(bench: _Bench) -> None:
    engine, base = bench.engine, np.arange(24.0).reshape(2, 3, 4)
    (value,) = bench.put(base)
    for axes in ((0,), (1, 2), (0, 1, 2)):
        bench.same(engine.sum(value, axes), base.sum(axes), f"sum over {axes}")
        bench.same(engine.mean(value, axes), base.mean(axes), f"mean over {axes}")
    rows = np.array([[0.0, 1.0, 2.0], [1000.0, 0.0, -1000.0]])
    wanted = [[-2.40760596, -1.40760596, -0.40760596], [0.0, -1000.0, -2000.0]]
    bench.same(engine.where(value > 5, value, -value), np.where(base > 5, base, -base), "where")
    bench.same(engine.exp(-value), np.exp(-base), "exp")
    bench.same(engine.log(value + 1), np.log(base + 1), "log")
    bench.same(engine.log_softmax(bench.put(rows)[0]), wanted, "log_softmax", max(bench.tolerance, 1e-8))


CHECKS = (
    _check_capabilities,
    _check_push,
    _check_pull,
    _check_disconnected,
    _check_second_order,
    _check_map,
    _check_compile,
    _check_inspect,
    _check_push_problem,
    _check_trial,
    _check_unit,
    _check_gather_and_top,
    _check_kinds,
    _check_conversion,
    _check_verbs,
    _check_reductions,
)
