"""The PyTorch engine."""

from __future__ import annotations

import contextlib
import math
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from wrt.engines import torch_apart, torch_layout, torch_optim, torch_rules
from wrt.engines.base import Array, Arrays, Capabilities, Facts, Function, Optimizer
from wrt.engines.torch_graph import Graph, depends, runs_outside_python
from wrt.engines.torch_missing import named
from wrt.errors import DerivativeError, reason
from wrt.rules import Rule, Switch
from wrt.trees import NODES

for _kind in NODES:
    torch.export.register_dataclass(_kind, serialized_type_name=f"wrt.{_kind.__name__}")


class TorchEngine(torch_apart.TorchApart):
    """pull is autograd, push is `torch.func.jvp`; inside a `torch.func` transformation both are `torch.func`."""

    name = "torch"
    capabilities = Capabilities(compiles=False, pull_cost=2.0, push_cost=3.0, push_again_cost=9.0, unroll=32)
    channels = staticmethod(torch_layout.channels)

    def pull(
        self, f: Function, primals: Arrays, graph: bool = False, once: bool = False
    ) -> tuple[Arrays, Callable[[Arrays], Arrays]]:
        if transforming():
            with _composed_attention():
                y, pulled = torch.func.vjp(f, primals)
            return y, lambda cotangents: _switched(f, lambda: pulled(list(cotangents))[0])
        with _recording(), _composed_attention() if graph else contextlib.nullcontext():
            leaves = [p if graph and p.requires_grad else _leaf(p) for p in primals]
            y = f(leaves)
        keep = graph or not once

        def back(cotangents: Arrays) -> Arrays:
            return _switched(f, lambda: self._back(y, leaves, cotangents, graph, keep))

        return y if graph else [a.detach() for a in y], back

    def _back(self, y: Arrays, leaves: Arrays, cotangents: Arrays, graph: bool, keep: bool) -> Arrays:
        pairs = [(a, u) for a, u in zip(y, cotangents, strict=True) if a.requires_grad]
        if not pairs:
            return [torch.zeros_like(leaf) for leaf in leaves]
        outputs, seeds = zip(*pairs, strict=True)
        grads = torch.autograd.grad(outputs, leaves, seeds, keep, graph, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, grads, strict=True)]

    def push(self, f: Function, primals: Arrays, tangents: Arrays) -> tuple[Arrays, Arrays]:
        with _composed_attention():
            return torch.func.jvp(f, (primals,), (list(tangents),))

    def map(self, f: Callable[[Array], Arrays], count: int, chunk: int) -> Arrays:
        if count == 0:
            return [a[None][:0] for a in f(0)]
        if count == 1:
            return [a[None] for a in f(0)]
        if chunk == 1:
            return [torch.stack(column) for column in zip(*map(f, range(count)), strict=True)]
        try:
            with warnings.catch_warnings():  # of operators that vmap repeats one by one, as a chunk of 1 would
                warnings.filterwarnings("ignore", "There is a performance drop")
                return list(torch.func.vmap(f, chunk_size=chunk)(torch.arange(count)))
        except (RuntimeError, DerivativeError) as error:  # an operator without a batching rule
            if self.is_out_of_memory(error):
                raise
            return self.map(f, count, 1)

    def compile(self, f: Callable[..., Any]) -> Callable[..., Any]:
        # torch counts recompilations per code object, so every program gets its own
        code = f.__code__.replace()
        own = types.FunctionType(code, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
        return torch.compile(own, dynamic=False)

    def with_backward(self, h: Callable[[Array], Array], rule: Rule, switch: Switch) -> Callable[[Array], Array]:
        return torch_rules.with_backward(h, rule, switch)

    def with_rules(self, f: Function, rules: Mapping[str, Rule], seen: set[str], switch: Switch) -> Function:
        return torch_rules.with_rules(f, rules, seen, switch)

    def inspect(self, f: Function, primals: Arrays) -> Facts:
        if transforming():
            y = f(primals)
            return Facts(tuple(tuple(a.shape) for a in y), ((True,) * len(primals),) * len(y), 0)
        # the caller's own hooks have no part in this look
        with _recording(), torch.autograd.graph.saved_tensors_hooks(torch.Tensor.detach, lambda t: t):
            leaves = [_leaf(p) for p in primals]
            y = f(leaves)
            graph = Graph(y)
            with named():
                connected = tuple(depends(a, leaves) for a in y)
        return Facts(tuple(tuple(a.shape) for a in y), connected, graph.saved_bytes(primals), graph.custom_operators())

    def push_problem(self, f: Function, primals: Arrays) -> str:
        try:
            self.push(f, primals, [torch.zeros_like(p) for p in primals])
            outside = runs_outside_python(f, primals)
        except (RuntimeError, DerivativeError) as error:
            return reason(error)
        return "an operator runs outside Python (TorchScript, an extension), where it cannot be trusted" * outside

    def trial(self, f: Function, arrays: Arrays) -> Arrays | None:
        return None if transforming() else f(arrays)

    def owns(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor)

    def is_traced(self, value: Any) -> bool:
        return transforming()

    def carries_graph(self, value: Any) -> bool:
        return value.requires_grad or (transforming() and not torch.compiler.is_compiling())

    def is_recording(self) -> bool:
        return torch.is_grad_enabled()

    def is_out_of_memory(self, error: BaseException) -> bool:
        text = str(error)
        return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in text

    def free_memory(self, like: Array | None) -> int | None:
        if like is None or like.device.type != "cuda":
            return None
        return torch.cuda.mem_get_info(like.device)[0]

    def asarray(self, value: Any, dtype: str | None = None, like: Array | None = None) -> Array:
        kind = None if dtype is None else getattr(torch, dtype)
        if not isinstance(value, torch.Tensor):
            value = torch.from_numpy(np.array(value, order="C"))
        return value.to(dtype=kind, device=None if like is None else like.device)

    def numpy(self, value: Array) -> np.ndarray:
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy(force=True)

    def dtype(self, value: Array) -> str:
        return str(value.dtype).removeprefix("torch.")

    def unit(self, r: Array, like: Sequence[Array]) -> Arrays:
        seeds, start = [], 0
        for leaf in like:
            size = math.prod(leaf.shape[1:])
            row = (torch.arange(start, start + size, device=leaf.device) == r).to(leaf.dtype)
            seeds.append(row.reshape(leaf.shape[1:]).expand(leaf.shape))
            start += size
        return seeds

    def gather(self, value: Array, index: Array) -> Array:
        rows = torch.arange(value.shape[0], device=value.device).reshape((-1,) + (1,) * (index.ndim - 1))
        return value[rows, index.long()]

    def top(self, value: Array, k: int) -> Array:
        return torch.topk(value.detach(), k, dim=1).indices

    def zeros(self, like: Array, shape: Sequence[int], dtype: str) -> Array:
        return torch.zeros((like.shape[0], *shape), dtype=getattr(torch, dtype), device=like.device)

    def zeros_like(self, value: Array) -> Array:
        return torch.zeros_like(value)

    def reshape(self, value: Array, shape: Sequence[int]) -> Array:
        return value.reshape(tuple(shape))

    def moveaxis(self, value: Array, source: int, target: int) -> Array:
        return value.movedim(source, target)

    def concatenate(self, values: Sequence[Array], axis: int = 0) -> Array:
        return torch.cat(list(values), dim=axis)

    def sum(self, value: Array, axes: Sequence[int]) -> Array:
        return value.sum(tuple(axes))

    def mean(self, value: Array, axes: Sequence[int]) -> Array:
        return value.mean(tuple(axes))

    def log_softmax(self, value: Array) -> Array:
        return torch.log_softmax(value, -1)

    def where(self, mask: Array, value: Array, other: Array) -> Array:
        return torch.where(mask, value, other)

    def exp(self, value: Array) -> Array:
        return value.exp()

    def log(self, value: Array) -> Array:
        return value.log()

    def optimizer(self, name: str, rate: float, params: Arrays) -> Optimizer:
        return torch_optim.TorchOptimizer(name, rate, params)

    def detach(self, value: Array) -> Array:
        return value if transforming() else value.detach()


def transforming() -> bool:
    """Whether this runs inside a `torch.func` transformation or under `torch.compile`."""
    if torch.compiler.is_compiling():
        return True
    try:
        torch.empty(0).requires_grad_()  # refused, with this error, inside every transformation
    except RuntimeError:
        return True
    return False


@contextlib.contextmanager
def _recording() -> Iterator[None]:
    """Record a graph even where the caller has switched gradients off, and all of it: without checkpoints.

    A checkpoint would call the module again during a pull, when its modes and weights are the user's again. It is a
    hook on saved tensors; where the caller has such hooks, all of them stay in force.
    """
    autograd = torch._C._autograd
    with torch.inference_mode(False), torch.enable_grad():
        before = autograd._saved_tensors_hooks_set_tracing(autograd._top_saved_tensors_default_hooks(True) is None)
        try:
            yield
        finally:
            autograd._saved_tensors_hooks_set_tracing(before)


def _switched(f: Function, run: Callable[[], Arrays]) -> Arrays:
    """With the modified rules of `f` in force, if it has any."""
    with named(), getattr(f, "switch", contextlib.nullcontext()):
        return run()


def _composed_attention() -> contextlib.AbstractContextManager[None]:
    """Attention made of plain operators: the fused ones have neither a forward nor a second derivative."""
    return sdpa_kernel(SDPBackend.MATH)


def _leaf(value: Array) -> Array:
    value = value.clone() if value.is_inference() else value
    return value.detach().requires_grad_()
