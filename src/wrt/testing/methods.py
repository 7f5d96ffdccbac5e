"""Does a method keep what its record promises? Every invariant, on networks that are made for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from wrt.engines import registry
from wrt.engines.base import Array, Engine
from wrt.errors import OptionError, suggest
from wrt.methods.method import METHODS, Invariant, find

MODULES = {"jax": "jax.nn", "torch": "torch", "tensorflow": "tensorflow.nn"}
SAMPLES, FEATURES, UNITS = 5, 6, 3
ONE, OTHER, CONSTANT, SHIFT = 0, 3, 2, 9.0  # numbers of inputs; a shift beyond all values


@dataclass(frozen=True)
class Net:
    """Dense layers `(kernel, bias)` with an activation, `"relu"` or `"tanh"`, between them."""

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    activation: str

    def on(self, engine: Engine, module: Any = None) -> Callable[[Array], Array]:
        """The network as a function of tensors of `engine`; `module` holds `relu` and `tanh` if it is not built in."""
        activation = getattr(module or _module(engine), self.activation)

        *inner, (last, offset) = [tuple(map(engine.asarray, layer)) for layer in self.layers]

        def f(x: Array) -> Array:
            for kernel, bias in inner:
                x = activation(x @ kernel + bias)
            return x @ last + offset

        return f


def check_method(
    method: str | Callable[..., Any],
    engine: Engine | None = None,
    *,
    invariants: Iterable[Invariant] | None = None,
    options: Mapping[str, Any] | None = None,
    build: Callable[[Net], Any] | None = None,
    tolerance: float = 1e-6,
) -> None:
    """Check what a method promises of its maps, on small networks of six inputs that are made for each promise.

    Completeness: maps add up to y(x) - y(0). Symmetry: two inputs that may be swapped, though the network computes with
    them differently. Implementation invariance: a network, and another that computes the same. Zero on constants: an
    input that the network uses and whose influence cancels.

    Args:
        method: a name in `wrt.methods.METHODS`, or a function of that form.
        engine: whose tensors the networks compute with; `wrt.engines.registry.engine("reference")` by default.
        invariants: what to check; by default all that the record of the method states.
        options: of the method, such as `{"background": array}`, `(B, 6)`.
        build: makes a model out of a `Net`, for methods that need more than a function; by default `Net.on(engine)`.
        tolerance: relative to the largest entry of a map.

    Raises:
        AssertionError: lists the promises that are not kept, with what was found.
        OptionError: an unknown method or invariant, or a function without a record and without `invariants`.

    Example:
        >>> from wrt.testing import check_method
        >>> check_method("integrated_gradients")
        >>> try:
        ...     check_method("gradient", invariants=["completeness"])
        ... except AssertionError as error:
        ...     print(error)
        gradient breaks its promises:
          completeness: the map of sample ... adds up to ..., the outputs differ by ...
    """
    function = find(method)
    home = engine or registry.engine("reference")
    bench = _Bench(function, home, build or (lambda net: net.on(home)), dict(options or {}), tolerance)
    found = [f"{name}: {problem}" for name in _wanted(function, invariants) if (problem := _problem(name, bench))]
    title = getattr(function, "__name__", "the method")
    assert not found, f"{title} breaks its promises:\n" + "\n".join(f"  {line}" for line in found)


def _wanted(function: Callable[..., Any], invariants: Iterable[Invariant] | None) -> list[Invariant]:
    if invariants is None:
        record = next((m for m in METHODS.values() if m.function is function), None)
        if record is None:
            raise OptionError("method= is no registered method, so nothing says what it promises; give invariants=")
        invariants = record.invariants
    for name in (wanted := sorted(invariants)):
        if name not in CHECKS:
            raise OptionError(f"unknown invariant {name!r}.{suggest(name, CHECKS)}")
    return wanted


def _problem(name: Invariant, bench: _Bench) -> str:
    try:
        CHECKS[name](bench)
    except AssertionError as error:
        return str(error)
    except Exception as error:  # a check that cannot even run is a finding like any other
        return f"raised {type(error).__name__}: {error}"
    return ""


def _module(engine: Engine) -> Any:
    if engine.name in MODULES:
        return importlib.import_module(MODULES[engine.name])
    return SimpleNamespace(relu=lambda x: np.maximum(x, 0), tanh=np.tanh)


@dataclass(frozen=True)
class _Bench:
    """The method under test, and what it is tested with."""

    function: Callable[..., Any]
    engine: Engine
    build: Callable[[Net], Any]
    options: dict[str, Any]
    tolerance: float

    def maps(self, net: Net, x: np.ndarray) -> np.ndarray:
        """The maps (N, 6) of unit `n % 3` of sample n."""
        found = self.function(self.build(net), self.engine.asarray(x), labels(x), **self.options)
        maps = np.asarray(registry.host(found), float)
        assert maps.shape == x.shape, f"maps have shape {maps.shape}; expected {x.shape}"
        assert np.isfinite(maps).all(), "maps hold numbers that are not finite"
        assert maps.any(1).all(), "the maps of some samples are all zero, of which every promise is true"
        return maps

    def zero(self, gaps: np.ndarray, maps: np.ndarray, what: str) -> None:
        """Differences (N,) are small beside the maps."""
        limits = self.tolerance * np.abs(maps).max(1)
        worst = int(np.argmax(gaps / limits))
        assert gaps[worst] <= limits[worst], f"{what.format(worst)} (allowed: {limits[worst]:.1e})"


def labels(x: np.ndarray) -> np.ndarray:
    """A unit for every sample."""
    return np.arange(len(x)) % UNITS


def _check_completeness(bench: _Bench) -> None:
    net, x = _net("tanh"), _points()
    maps = bench.maps(net, x)
    high, low = (_values(bench, net, a)[np.arange(SAMPLES), labels(x)] for a in (x, 0 * x))
    gaps = maps.sum(1) - (high - low)
    first = int(np.argmax(np.abs(gaps)))
    what = f"the map of sample {{}} adds up to {maps[first].sum():.6g}, the outputs differ by {(high - low)[first]:.6g}"
    bench.zero(np.abs(gaps), maps, what)


def _values(bench: _Bench, net: Net, x: np.ndarray) -> np.ndarray:
    return np.asarray(registry.host(net.on(bench.engine)(bench.engine.asarray(x))))


def _check_symmetry(bench: _Bench) -> None:
    net, x = _net("relu"), _points()
    x[:, OTHER] = x[:, ONE]
    net.layers[0][0][OTHER] = net.layers[0][0][ONE]
    maps = bench.maps(_disguised(net, SHIFT * (np.arange(FEATURES) == OTHER)), x)
    gaps = np.abs(maps[:, OTHER] - maps[:, ONE])
    bench.zero(gaps, maps, f"in sample {{}} the two get {maps[:, [ONE, OTHER]].tolist()}")


def _check_implementation_invariance(bench: _Bench) -> None:
    net, x = _net("relu"), _points()
    maps, others = bench.maps(net, x), bench.maps(_disguised(net, SHIFT * (np.arange(FEATURES) % 2)), x)
    gaps = np.abs(maps - others).max(1)
    bench.zero(gaps, maps, f"in sample {{}} the maps of two networks that compute the same differ by {gaps.max():.3g}")


def _check_zero_on_constants(bench: _Bench) -> None:
    net, x = _net("relu"), _points()
    net.layers[0][0][CONSTANT] = 0
    maps = bench.maps(_disguised(net, np.zeros(FEATURES), net.layers[0][0][ONE]), x)
    gaps = np.abs(maps[:, CONSTANT])
    bench.zero(gaps, maps, f"in sample {{}} an input of no influence gets {gaps.max():.3g}")


def _points() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(SAMPLES, FEATURES))


def _net(activation: str) -> Net:
    """Three layers with weights of their own."""
    rng, sizes = np.random.default_rng(2), ((FEATURES, 12), (12, 9), (9, UNITS))
    return Net(tuple((rng.normal(size=s), rng.normal(size=s[1]) / 2) for s in sizes), activation)


def _disguised(net: Net, shifts: np.ndarray, cancelling: Any = 0.0) -> Net:
    """The same function behind one more layer, which computes x = relu(x) - relu(-x), or relu(x + shift) - shift.

    Two more units of that layer, each relu(x[CONSTANT]), have these weights and their opposite.
    """
    (kernel, bias), *rest = net.layers
    eye, plain = np.eye(FEATURES), (shifts == 0)[:, None]
    into = np.hstack([eye, -eye, eye[:, [CONSTANT, CONSTANT]]])
    once = np.zeros((1, kernel.shape[1])) + cancelling
    first = (into, np.hstack([shifts, np.zeros(FEATURES + 2)]))
    return Net((first, (np.vstack([kernel, -kernel * plain, once, -once]), bias - shifts @ kernel), *rest), "relu")


CHECKS: dict[Invariant, Callable[[_Bench], None]] = {
    "completeness": _check_completeness,
    "symmetry": _check_symmetry,
    "implementation invariance": _check_implementation_invariance,
    "zero on constants": _check_zero_on_constants,
}
