"""Derivatives that TensorFlow does not have: named in errors, also where it says nothing and goes on with zeros."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import tensorflow as tf

from wrt.engines.base import Array
from wrt.engines.tensorflow_rewrite import bodies, is_custom, recomputes, results_of
from wrt.errors import DerivativeError, reason

WAY = "write it in other operators, give it a rule of yours (tf.custom_gradient), or cut it off with tf.stop_gradient"
SILENT = {  # kinds of operators, and the inputs that TensorFlow says do not matter, though they do
    **dict.fromkeys(("PyFunc", "PyFuncStateless", "DrawBoundingBoxes", "DrawBoundingBoxesV2", "SparseConcat"), None),
    **dict.fromkeys(("Range", "LinSpace", "ExtractGlimpse", "CTCBeamSearchDecoder"), None),
    "Betainc": (0, 1),
    "Zeta": (0,),
}
WRONG = {  # kinds of operators whose own derivative is that of something else, or parts of names of such programs
    "ImageProjectiveTransformV2": "resamples the cotangent in place of transposing",
    "ImageProjectiveTransformV3": "resamples the cotangent in place of transposing",
    "eigh_tridiagonal": "goes through a bisection; tf.linalg.eigvalsh of the matrix is right",
}
CUT = ("StopGradient", "ZerosLike", "OnesLike")


def between(leaves: Iterable[Array], outputs: Iterable[Array]) -> list[tf.Operation]:
    """The operators of a graph by which outputs depend on leaves, in the order in which they were made."""
    stack = [a.op for a in outputs if tf.is_symbolic_tensor(a)]
    if not stack:
        return []
    needed: set[tf.Operation] = set()
    graph = stack[0].graph
    while stack:
        op = stack.pop()
        if op not in needed:
            needed.add(op)
            stack += [t.op for t in _followed(op)]
    moving = {a.ref() for a in leaves}
    found = []
    for op in graph.get_operations():
        if any(t.ref() in moving for t in op.inputs):
            moving.update(
                t.ref() for t in op.outputs if not t.dtype.is_integer and not t.dtype.is_bool and op.type not in CUT
            )
            found += [op] if op in needed else []
    return found


def _followed(op: tf.Operation) -> list[Array]:
    """The inputs to which cotangents go."""
    if op.type in CUT:
        return []
    custom = is_custom(op) and not recomputes(op)
    return list(op.inputs)[results_of(op) if custom else 0 :]


def refuse(leaves: Iterable[Array], outputs: Iterable[Array]) -> None:
    """Let nothing pass of which TensorFlow's derivatives are known to be wrong, or zero without a word.

    Raises:
        DerivativeError: outputs depend on leaves through such an operator.
    """
    leaves = list(leaves)
    follow = {a.ref() for a in leaves}
    for op in between(leaves, outputs):
        follow.update(t.ref() for t in op.outputs)
        wrong = next((why for kind, why in WRONG.items() if kind == op.type or f"{kind}/" in op.name), "")
        if wrong:
            raise DerivativeError(f"TensorFlow's derivative of {op.type} ({op.name}) is wrong: it {wrong}; {WAY}")
        if op.type in SILENT and any(t.dtype.is_floating for t in op.outputs):
            inputs = SILENT[op.type]
            if inputs is None or any(op.inputs[i].ref() in follow for i in inputs):
                raise DerivativeError(f"TensorFlow has no derivative of {op.type} ({op.name}) and says nothing; {WAY}")
        for body in bodies(op):
            refuse(body.inputs, body.outputs)


@contextmanager
def named() -> Iterator[None]:
    """What TensorFlow raises when it finds no derivative becomes an error that names the operator.

    Raises:
        DerivativeError: there is none.
    """
    try:
        yield
    except (LookupError, NotImplementedError) as error:
        kind = missing(error)
        if not kind and not re.search("grad|caching devices", str(error).lower()):  # the second: of tf.recompute_grad
            raise
        again = (
            "no second derivative (that of its operator"
            if "Grad" in kind or "Back" in kind
            else "no derivative (of its operator"
        )
        what = f"TensorFlow has {again} {kind})" if kind else f"TensorFlow: {reason(error)}"
        raise DerivativeError(f"{what}; {WAY}") from error


def missing(error: BaseException) -> str:
    """The kind of operator that has no derivative, from TensorFlow's error."""
    found = re.search(r"(?:op type: |no entry for: )(\w+)", str(error))
    return found[1] if found else ""


def reaches(tape: tf.GradientTape, output: Array, leaves: Sequence[Array]) -> tuple[bool, ...]:
    """Which of these tensors an output of the graph that is being made depends on.

    Raises:
        DerivativeError: through an operator that has no derivative, and is no step, such as the search for a bucket.
    """
    try:
        with named():
            return tuple(g is not None for g in tape.gradient(output, leaves))
    except DerivativeError as error:
        kind = missing(error.__cause__ or error)
        alike = [op for op in tf.compat.v1.get_default_graph().get_operations() if op.type == kind]
        if not kind or any(t.dtype.is_floating or t.dtype.is_complex for op in alike for t in op.outputs):
            raise
        return (False,) * len(leaves)
