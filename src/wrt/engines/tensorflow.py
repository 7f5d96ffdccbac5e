"""The TensorFlow engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record  # the public interface does not say whether a tape is open

from wrt.engines import tensorflow_apart, tensorflow_layout, tensorflow_rules, tensorflow_trace
from wrt.engines.base import Array, Arrays, Capabilities, Facts, Function, Optimizer, Trace
from wrt.engines.tensorflow_gradients import AGAIN, ALWAYS, PUSHED, differentiable, not_pushed
from wrt.engines.tensorflow_map import mapped
from wrt.engines.tensorflow_missing import named, reaches, refuse
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
    capabilities = Capabilities(compiles=True, push_cost=3.0, push_again_cost=5.0, traces=True, retypes=False)
    channels = staticmethod(tensorflow_layout.channels)

    def pull(
        self, f: Function, primals: Arrays, graph: bool = False, once: bool = False
    ) -> tuple[Arrays, Callable[[Arrays], Arrays]]:
        if hasattr(f, "switch"):
            return tensorflow_rules.pull(f, primals)
        f = differentiable(f, AGAIN if graph else ALWAYS)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(primals)
            with named():
                y = f(primals)

        def back(cotangents: Arrays) -> Arrays:
            seeds = [tf.cast(u, a.dtype) for u, a in zip(cotangents, y, strict=True)]
            with named():
                grads = tape.gradient(y, primals, output_gradients=seeds, unconnected_gradients=ZERO)
            return [tf.convert_to_tensor(g) for g in grads]

        return y, back

    def push(self, f: Function, primals: Arrays, tangents: Arrays) -> tuple[Arrays, Arrays]:
        with tf.autodiff.ForwardAccumulator(primals, list(tangents)) as accumulator:
            y = differentiable(f, PUSHED)(primals)
        return y, [accumulator.jvp(a, unconnected_gradients=ZERO) for a in y]

    def map(self, f: Callable[[Array], Arrays], count: int, chunk: int) -> Arrays:
        return mapped(f, count, chunk, self.capabilities.unroll)

    def compile(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return tf.function(f, reduce_retracing=True, autograph=False)

    def trace(self, f: Callable[..., Any], arguments: tuple[Any, ...]) -> Trace:
        return tensorflow_trace.trace(f, arguments)

    def seal(self, trace: Trace, most: int) -> Trace | None:
        return trace if trace.whole else None

    def spec(self, shape: Sequence[int | None], dtype: str) -> Array:
        return tf.TensorSpec(tuple(shape), dtype)

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
                with named():
                    y = differentiable(f)(list(leaves))
            refuse(leaves, y)
            operations = tf.compat.v1.get_default_graph().get_operations()[before:]
            seen["bytes"] = sum(_bytes(t) for op in operations for t in op.outputs if op.type not in WEIGHTS)
            seen["shapes"] = tuple(tuple(a.shape) for a in y)
            seen["connected"] = tuple(reaches(tape, a, leaves) for a in y)
            return y

        tf.function(trace, autograph=False).get_concrete_function(*primals)
        return Facts(seen["shapes"], seen["connected"], seen["bytes"])

    def push_problem(self, f: Function, primals: Arrays) -> str:
        found: list[str] = []

        def trace(*leaves: Array) -> Arrays:
            with tf.autodiff.ForwardAccumulator(leaves, leaves) as accumulator:
                y = differentiable(f, PUSHED)(list(leaves))
            found.extend(not_pushed(accumulator, y, leaves))
            return y

        try:
            tf.function(trace, autograph=False).get_concrete_function(*primals)
        except Exception as error:
            return reason(error)
        return f"TensorFlow has no forward derivative of {', '.join(found)}" if found else ""

    def trial(self, f: Function, arrays: Arrays) -> Arrays | None:
        rng = np.random.default_rng(0)
        known = [np.resize(rng.normal(size=64), [s or 2 for s in a.shape]) if self.is_traced(a) else a for a in arrays]

        def run() -> Arrays:
            return f([tf.cast(a, b.dtype) for a, b in zip(known, arrays, strict=True)])

        if tf.executing_eagerly():
            return run()
        with ThreadPoolExecutor(1) as thread:  # outside the graph; tf.init_scope would stop tapes too
            return thread.submit(run).result()

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
