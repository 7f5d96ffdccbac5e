"""The TensorFlow engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record  # the public interface does not say whether a tape is open

from wrt.engines import tensorflow_apart, tensorflow_rules
from wrt.engines.base import Array, Arrays, Capabilities, Facts, Function, Optimizer
from wrt.engines.tensorflow_gradients import differentiable, wrong_push
from wrt.errors import reason
from wrt.rules import Rule, Switch
from wrt.trees import NODES

for _kind in NODES:  # the protocol of tf.nest
    _kind.__tf_flatten__ = lambda self: ((), tuple(vars(self).values()))  # type: ignore[attr-defined]
    _kind.__tf_unflatten__ = classmethod(lambda cls, _, fields: cls(*fields))  # type: ignore[attr-defined]

ZERO = tf.UnconnectedGradients.ZERO
WEIGHTS = ("Const", "Placeholder", "ReadVariableOp")  # operators whose results are there once, whatever the batch


class TensorflowEngine(tensorflow_apart.TensorflowApart):
    """pull is a `GradientTape`, push is a `ForwardAccumulator`, compilation is `tf.function`."""

    name = "tensorflow"
    capabilities = Capabilities(True, pull_cost=2.0, push_cost=3.0, push_again_cost=5.0, unroll=32, retypes=False)

    def pull(
        self, f: Function, primals: Arrays, graph: bool = False, once: bool = False
    ) -> tuple[Arrays, Callable[[Arrays], Arrays]]:
        if hasattr(f, "switch"):
            return tensorflow_rules.pull(f, primals)
        f = differentiable(f) if graph else f
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(primals)
            y = f(primals)

        def back(cotangents: Arrays) -> Arrays:
            seeds = [tf.cast(u, a.dtype) for u, a in zip(cotangents, y, strict=True)]
            grads = tape.gradient(y, primals, output_gradients=seeds, unconnected_gradients=ZERO)
            return [tf.convert_to_tensor(g) for g in grads]

        return y, back

    def push(self, f: Function, primals: Arrays, tangents: Arrays) -> tuple[Arrays, Arrays]:
        with tf.autodiff.ForwardAccumulator(primals, list(tangents)) as accumulator:
            y = f(primals)
        return y, [accumulator.jvp(a, unconnected_gradients=ZERO) for a in y]

    def map(self, f: Callable[[Array], Arrays], count: int, chunk: int) -> Arrays:
        if count == 0:
            return [a[None][:0] for a in f(tf.constant(0))]
        steps = -(-count // chunk)
        parts = np.array_split(np.arange(count), steps)
        if steps > self.capabilities.unroll and not tf.executing_eagerly():
            return self._looped(f, count, chunk)
        pieces: list[Arrays] = []
        for part in parts:
            # one part after the other, so that memory holds one part at a time
            with tf.control_dependencies(pieces[-1] if pieces else []):
                pieces.append(self._part(f, tf.constant(part), chunk))
        return [tf.concat(column, 0) for column in zip(*pieces, strict=True)]

    def _part(self, f: Callable[[Array], Arrays], index: Array, chunk: int) -> Arrays:
        if chunk == 1:
            return [a[None] for a in f(index[0])]
        if _needs_xla():
            return [tf.stack(column) for column in zip(*map(f, tf.unstack(index)), strict=True)]
        return tf.vectorized_map(f, index)

    def _looped(self, f: Callable[[Array], Arrays], count: int, chunk: int) -> Arrays:
        head = count % chunk or chunk
        first = self._part(f, tf.range(head), chunk)
        signature = [tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in first]
        index = tf.reshape(tf.range(head, count), (-1, chunk))
        rest = tf.map_fn(lambda i: self._part(f, i, chunk), index, fn_output_signature=signature, parallel_iterations=1)
        flat = [tf.reshape(a, tf.concat([[-1], tf.shape(a)[2:]], 0)) for a in rest]
        return [tf.concat([a, b], 0) for a, b in zip(first, flat, strict=True)]

    def compile(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return tf.function(f, reduce_retracing=True, autograph=False)

    def with_backward(self, h: Callable[[Array], Array], rule: Rule, switch: Switch) -> Callable[[Array], Array]:
        return tensorflow_rules.with_backward(h, rule, switch)

    def with_rules(self, f: Function, rules: Mapping[str, Rule], seen: set[str], switch: Switch) -> Function:
        return tensorflow_rules.with_rules(f, rules, seen, switch)

    def inspect(self, f: Function, primals: Arrays) -> Facts:
        seen: dict[str, Any] = {}

        def trace(*leaves: Array) -> Arrays:
            before = len(tf.compat.v1.get_default_graph().get_operations())
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(leaves)
                y = f(list(leaves))
            operations = tf.compat.v1.get_default_graph().get_operations()[before:]
            seen["bytes"] = sum(_bytes(t) for op in operations for t in op.outputs if op.type not in WEIGHTS)
            seen["shapes"] = tuple(tuple(a.shape) for a in y)
            seen["connected"] = tuple(_reaches(tape, a, leaves) for a in y)
            return y

        tf.function(trace, autograph=False).get_concrete_function(*primals)
        return Facts(seen["shapes"], seen["connected"], seen["bytes"])

    def push_problem(self, f: Function, primals: Arrays) -> str:
        def trace(*leaves: Array) -> Arrays:
            with tf.autodiff.ForwardAccumulator(leaves, leaves) as accumulator:
                y = f(list(leaves))
            missing = [a for a in y if accumulator.jvp(a) is None]
            return y if not missing else []

        try:
            concrete = tf.function(trace, autograph=False).get_concrete_function(*primals)
        except Exception as error:
            return reason(error)
        if not concrete.outputs:
            return "TensorFlow has no forward derivative of one of the operators (the tangent is None)"
        return wrong_push(concrete.graph)

    def trial(self, f: Function, arrays: Arrays) -> Arrays | None:
        rng = np.random.default_rng(0)
        known = [np.resize(rng.normal(size=64), [s or 2 for s in a.shape]) if self.is_traced(a) else a for a in arrays]
        with tf.init_scope():
            return f([tf.cast(a, b.dtype) for a, b in zip(known, arrays, strict=True)])

    def owns(self, value: Any) -> bool:
        return isinstance(value, (tf.Tensor, tf.Variable))

    def is_traced(self, value: Any) -> bool:
        return tf.is_symbolic_tensor(value) or not tf.executing_eagerly()

    def carries_graph(self, value: Any) -> bool:
        return self.is_traced(value) or record.could_possibly_record()

    def is_recording(self) -> bool:
        return False

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError))

    def free_memory(self, like: Array | None) -> int | None:
        return None

    def asarray(self, value: Any, dtype: str | None = None, like: Array | None = None) -> Array:
        value = tf.convert_to_tensor(value)
        return value if dtype is None else tf.cast(value, dtype)

    def numpy(self, value: Array) -> np.ndarray:
        return (tf.cast(value, tf.float32) if value.dtype == tf.bfloat16 else value).numpy()

    def dtype(self, value: Array) -> str:
        return value.dtype.name

    def unit(self, r: Array, like: Sequence[Array]) -> Arrays:
        seeds, start = [], 0
        for leaf in like:
            size = math.prod(leaf.shape[1:])
            row = tf.cast(tf.range(start, start + size) == tf.cast(r, tf.int32), leaf.dtype)
            seeds.append(tf.broadcast_to(tf.reshape(row, leaf.shape[1:]), tf.shape(leaf)))
            start += size
        return seeds

    def gather(self, value: Array, index: Array) -> Array:
        return tf.gather(value, tf.cast(index, tf.int32), axis=1, batch_dims=1)

    def top(self, value: Array, k: int) -> Array:
        return tf.math.top_k(tf.stop_gradient(value), k).indices

    def zeros(self, like: Array, shape: Sequence[int], dtype: str) -> Array:
        return tf.zeros(tf.concat([tf.shape(like)[:1], tf.constant(shape, tf.int32, (len(shape),))], 0), dtype)

    def zeros_like(self, value: Array) -> Array:
        return tf.zeros_like(value)

    def reshape(self, value: Array, shape: Sequence[int]) -> Array:
        return tf.reshape(value, [-1 if s is None else s for s in shape])

    def moveaxis(self, value: Array, source: int, target: int) -> Array:
        axes = list(range(value.shape.rank))
        axes.insert(target, axes.pop(source))
        return tf.transpose(value, axes)

    def concatenate(self, values: Sequence[Array], axis: int = 0) -> Array:
        return tf.concat(list(values), axis)

    def sum(self, value: Array, axes: Sequence[int]) -> Array:
        return tf.reduce_sum(value, list(axes))

    def mean(self, value: Array, axes: Sequence[int]) -> Array:
        return tf.reduce_mean(value, list(axes))

    def log_softmax(self, value: Array) -> Array:
        return tf.nn.log_softmax(value)

    def where(self, mask: Array, value: Array, other: Array) -> Array:
        return tf.where(mask, value, other)

    def exp(self, value: Array) -> Array:
        return tf.exp(value)

    def log(self, value: Array) -> Array:
        return tf.math.log(value)

    def optimizer(self, name: str, rate: float, params: Arrays) -> Optimizer:
        from wrt.engines.keras_optim import KerasOptimizer  # Keras only where it is needed

        return KerasOptimizer(name, rate, params, self.name, self.compile)

    def detach(self, value: Array) -> Array:
        return value


def _bytes(tensor: Array) -> int:
    shape = tensor.shape
    known = shape.rank is not None and all(s is not None for s in shape) and tensor.dtype.is_floating
    return math.prod(shape) * tensor.dtype.size if known else 0


def _needs_xla() -> bool:
    """Whether the graph being made holds what only XLA runs, as Keras's grouped convolutions; batching undoes that."""
    if tf.executing_eagerly():
        return False
    return any("_XlaMustCompile" in op.node_def.attr for op in tf.compat.v1.get_default_graph().get_operations())


def _reaches(tape: tf.GradientTape, output: Array, leaves: Sequence[Array]) -> tuple[bool, ...]:
    try:
        return tuple(g is not None for g in tape.gradient(output, leaves))
    except LookupError:  # an operator without a derivative, such as the search for a bucket
        return (False,) * len(leaves)
