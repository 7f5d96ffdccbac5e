"""What an engine owes: two primitives (push and pull), a map over seeds, compilation and a few array verbs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from wrt.engines.layout import Claims
from wrt.rules import Rule, Switch

Array = Any
Arrays = list[Array]
Function = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Capabilities:
    """What the planner has to know of an engine.

    Costs are in forward passes per seed, those with `again` for a pull or push of a gradient; `unroll` is the number
    of seeds that one compiled program may repeat one after the other before a loop or a batched form takes over.
    `transposes`: a pull is made by transposing a push, so that the two agree by construction.
    """

    compiles: bool
    pull_cost: float = 2.0
    push_cost: float = 2.0
    pull_again_cost: float = 4.0
    push_again_cost: float = 4.0
    unroll: int = 32
    retypes: bool = True  # functions of its arrays take float64 where they were given float32
    static_batch: bool = False  # a new N compiles a new program, so the last batch is padded
    traces: bool = False  # what is compiled holds what Python has read, and `trace` finds that out
    transposes: bool = False


@dataclass(frozen=True)
class Facts:
    """What one abstract evaluation of a function says about it.

    `shapes` are the outputs' shapes, `connected[j][k]` says whether output j depends on input k, `bytes` is what
    the intermediate values of all samples take, `custom` names operators with a derivative of the user's own.
    """

    shapes: tuple[tuple[int, ...], ...]
    connected: tuple[tuple[bool, ...], ...]
    bytes: int
    custom: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trace:
    """What a Python function computes now, whatever it has read.

    Traces with equal keys compute the same of equal constants. Constants are arguments of `function(constants, *args)`;
    where `sealed` they belong to the key instead, and there are none. `whole`: derivatives follow from the key too.
    `shapes` are those of what it returns.
    """

    key: Hashable
    constants: Arrays
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...] = ()
    whole: bool = True
    sealed: bool = False


class Optimizer(Protocol):
    """A framework's own optimiser, for tensors that belong to no model."""

    def step(self, params: Arrays, gradients: Arrays) -> Arrays:
        """The parameters after one step of descent."""

    def state(self) -> Any:
        """A copy of what it remembers."""

    def restore(self, state: Any) -> None:
        """Go on from such a copy."""


class Engine(Protocol):
    """The contract of an engine; `wrt.testing.check_engine` checks an implementation.

    Functions given to an engine map a list of arrays to a list of arrays, axis 0 of each being samples.
    """

    name: str
    capabilities: Capabilities

    # the two primitives and the map
    def pull(
        self, f: Function, primals: Arrays, graph: bool = False, once: bool = False
    ) -> tuple[Arrays, Callable[[Arrays], Arrays]]:
        """`(y, back)` with `back(u) = [sum_j u_j dy_j/dx_k]`; zeros where nothing depends.

        `graph`: the results can be differentiated again. `once`: `back` is called a single time, so that it may free
        what it has used.
        """

    def push(self, f: Function, primals: Arrays, tangents: Arrays) -> tuple[Arrays, Arrays]:
        """`(y, dy)` with `dy_j = sum_k dy_j/dx_k v_k`."""

    def map(self, f: Callable[[Array], Arrays], count: int, chunk: int) -> Arrays:
        """`f(r)` for r in range(count), stacked on a new axis 0, `chunk` at a time."""

    def compile(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """A version of `f` that compiles once per shape, and may hold for ever what `f` has read."""

    def trace(self, f: Callable[..., Any], arguments: tuple[Any, ...]) -> Trace:
        """The program of `f` for arguments like these: nested arrays, or what `spec` gives.

        This and the next two are asked only of engines that are capable of it.
        """

    def seal(self, trace: Trace, most: int) -> Trace | None:
        """With constants of up to so many bytes in the key; `None` where derivatives do not follow from that."""

    def spec(self, shape: Sequence[int | None], dtype: str) -> Array:
        """What stands for an array of this kind in the arguments of `trace`."""

    # evaluation apart from all derivatives
    def apart(self) -> AbstractContextManager[None]:
        """Inside, nothing is recorded for a derivative, and float64 can be had."""

    def generators_kept(self) -> AbstractContextManager[None]:
        """The framework's generators of random numbers end as they began."""

    def once(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """A version of `f` for a call or two: quick to make rather than to run. It leaves its arguments as they are."""

    def own_rules(self, f: Function, primals: Arrays) -> list[str]:
        """What in `f` has a derivative that its maker wrote, or none because it is detached: names for a message."""

    # modified backward rules
    def with_backward(self, h: Callable[[Array], Array], rule: Rule, switch: Switch) -> Callable[[Array], Array]:
        """`h`, a function of one tensor without weights, whose pullback is `rule(u, x, back)` while the switch is on.

        `pull` puts the switch on that it finds as `f.switch`; an engine that tells orders apart needs none.
        """

    def with_rules(self, f: Function, rules: Mapping[str, Rule], seen: set[str], switch: Switch) -> Function:
        """`f` with these activations ruled wherever they are called; adds the names of those found to `seen`."""

    # planning
    def inspect(self, f: Function, primals: Arrays) -> Facts:
        """Evaluate `f` abstractly, or on these few samples."""

    def push_problem(self, f: Function, primals: Arrays) -> str:
        """Why `push` would be missing or wrong for `f`; empty when it is right."""

    def channels(self, f: Function, primals: Arrays) -> tuple[list[Claims], list[tuple[Claims, Claims]]]:
        """Which axes convolutions and their like take for channels in each primal, and make in each result.

        The latter as a pair: axes on which they put channels, and axes on which linear maps put features. `None` among
        the former: a convolution was given an axis of its own. Nothing where nothing is seen.
        """

    def trial(self, f: Function, arrays: Arrays) -> Arrays | None:
        """`f(arrays)` with values, random ones in place of traced ones; `None` where that cannot be."""

    # kinds
    def owns(self, value: Any) -> bool:
        """Whether `value` is one of this engine's tensors."""

    def is_traced(self, value: Any) -> bool:
        """Whether the tensor has no value yet (inside the framework's own transformation)."""

    def carries_graph(self, value: Any) -> bool:
        """Whether results must stay differentiable with respect to this tensor."""

    def is_recording(self) -> bool:
        """Whether what is computed now may be differentiated later, where no tensor says so."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the framework's error means that memory ran out."""

    def free_memory(self, like: Array | None) -> int | None:
        """Free bytes on the device of `like`; `None` for the host's memory."""

    def asarray(self, value: Any, dtype: str | None = None, like: Array | None = None) -> Array:
        """A tensor with this dtype, on the device of `like`."""

    def numpy(self, value: Array) -> Any:
        """The value on the host; bfloat16 becomes float32."""

    def dtype(self, value: Array) -> str:
        """`"float32"`, `"int64"`, ..."""

    # array verbs
    def unit(self, r: Array, like: Sequence[Array]) -> Arrays:
        """Unit vector number `r` of the per-sample space of `like`, repeated for every sample."""

    def gather(self, value: Array, index: Array) -> Array:
        """`value[n, index[n, ...]]` of an (N, C) tensor."""

    def top(self, value: Array, k: int) -> Array:
        """Indices (N, k) of the k highest entries of an (N, C) tensor, highest first."""

    def zeros(self, like: Array, shape: Sequence[int], dtype: str) -> Array:
        """`(N, *shape)` zeros, with as many samples as `like` and on its device."""

    def zeros_like(self, value: Array) -> Array: ...

    def reshape(self, value: Array, shape: Sequence[int]) -> Array: ...

    def moveaxis(self, value: Array, source: int, target: int) -> Array: ...

    def concatenate(self, values: Sequence[Array], axis: int = 0) -> Array: ...

    def sum(self, value: Array, axes: Sequence[int]) -> Array: ...

    def mean(self, value: Array, axes: Sequence[int]) -> Array: ...

    def log_softmax(self, value: Array) -> Array:
        """The logarithm of the softmax on the last axis, made so that it neither overflows nor underflows."""

    def detach(self, value: Array) -> Array:
        """The same values, cut off from any graph."""

    def where(self, mask: Array, value: Array, other: Array) -> Array:
        """`value` where the mask, of booleans that broadcast, is true; `other` elsewhere."""

    def exp(self, value: Array) -> Array: ...

    def log(self, value: Array) -> Array: ...

    # ascent
    def optimizer(self, name: str, rate: float, params: Arrays) -> Optimizer:
        """The framework's optimiser of this name, for tensors like `params`."""
