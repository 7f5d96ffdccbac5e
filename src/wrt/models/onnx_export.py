"""ONNX files from torch: traced with a symbolic number of samples, made of operators of inference only."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.nn.attention import SDPBackend, sdpa_kernel

from wrt.errors import ExportError, reason
from wrt.models import onnx_rules
from wrt.models.portable import Port, Portable

TRACED = 23  # samples: a number that no other axis is likely to have
LARGEST = 2**31 - 2**20  # bytes of a protocol buffer
OWN_DOMAINS = ("", "ai.onnx")


def write(model: Portable, part: Path, version: str) -> None:
    """Write the function to an ONNX file.

    Raises:
        ExportError: an operator that ONNX does not have, named; or a model too large for one file.
    """
    import onnx

    weights = [w.detach() for w in model.weights]
    size = sum(w.numel() * w.element_size() for w in weights)
    if size > LARGEST:
        raise ExportError(f"the weights take {size:,} bytes; an ONNX file holds at most {LARGEST:,}")
    with _quiet():
        proto = _converted(_exported(model, weights), model)
    _describe(proto, model, version)
    check(proto)
    onnx.save(proto, str(part))


def _exported(model: Portable, weights: list[Any]) -> Any:
    graph = _trace(model, weights)
    arrays = tuple(_example(port) for port in model.inputs)
    dynamic = {"arrays": tuple({0: torch.export.Dim.AUTO} for _ in arrays)}
    try:
        return torch.export.export(_Closed(graph, weights), arrays, dynamic_shapes=dynamic, strict=False)
    except Exception as error:
        raise ExportError(f"torch.export cannot take the traced model: {reason(error)}") from error


def _trace(model: Portable, weights: list[Any]) -> Any:
    """The graph of the function: only the number of samples is left open, and nothing backward is left."""
    mode = FakeTensorMode(shape_env=ShapeEnv(duck_shape=False), allow_non_fake_inputs=True)
    constants = [mode.from_tensor(w, static_shapes=True) for w in weights]
    arrays = [_open(mode, _example(port), port.name) for port in model.inputs]
    tracer = make_fx(model.function, decomposition_table=onnx_rules.table(), _allow_non_fake_inputs=True)
    try:
        with mode, enable_python_dispatcher(), _plain():
            graph = tracer(constants, arrays)
    except Exception as error:
        raise ExportError(f"the model cannot be traced for any number of samples: {reason(error)}") from error
    if any(a.shape[0].node.maybe_as_int() is not None for a in arrays):
        raise ExportError("the model works for one number of samples only: a layer reads it and takes it as fixed")
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _example(port: Port) -> Any:
    return torch.zeros((TRACED, *port.shape), dtype=getattr(torch, port.dtype))


def _open(mode: Any, value: Any, name: str) -> Any:
    """A tensor without values, whose axis 0 has any length."""
    sizes = [DimDynamic.DYNAMIC] + [DimDynamic.STATIC] * (value.dim() - 1)
    context = StatelessSymbolicContext(dynamic_sizes=sizes)
    return mode.from_tensor(value, symbolic_context=context, source=ConstantSource(name))


@contextlib.contextmanager
def _plain() -> Iterator[None]:
    """Without the fused attention and recurrent layers, which are no operators of ONNX."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Closed(torch.nn.Module):
    """The graph with its weights."""

    def __init__(self, graph: Any, weights: list[Any]) -> None:
        super().__init__()
        self.traced = graph
        self.count = len(weights)
        for index, weight in enumerate(weights):
            self.register_buffer(f"weight_{index}", weight)

    def forward(self, *arrays: Any) -> Any:
        weights = [getattr(self, f"weight_{index}") for index in range(self.count)]
        return tuple(self.traced(weights, list(arrays)))


def _converted(program: Any, model: Portable) -> Any:
    names: dict[str, Any] = {"input_names": [port.name for port in model.inputs], "output_names": model.outputs}
    try:
        return torch.onnx.export(program, dynamo=True, verbose=False, optimize=True, **names).model_proto
    except Exception as error:
        raise ExportError(_about(error)) from error


def _about(error: BaseException) -> str:
    """The operators that ONNX does not have, found in the errors that led here."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    missing = set(re.findall(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", "\n".join(map(str, chain))))
    if missing:
        return f"ONNX has no operator for {', '.join(sorted(missing))}; change the layers that use it"
    return f"the conversion to ONNX failed: {type(chain[-1]).__name__}: {reason(chain[-1])}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converters report on packages that nothing here needs, and on what they chose."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _describe(proto: Any, model: Portable, version: str) -> None:
    """One name for the number of samples, and what the file is."""
    import onnx

    graph = proto.graph
    for value in (*graph.input, *graph.output):
        dimension = value.type.tensor_type.shape.dim[0]
        if dimension.HasField("dim_value"):
            raise ExportError(f"{value.name!r} came out with a fixed number of {dimension.dim_value} samples")
        dimension.dim_param = "batch"
    del graph.value_info[:]  # what runtimes infer themselves, under other names for the number of samples
    graph.name, proto.producer_name, proto.producer_version = f"wrt.{model.what}", "wrt", version
    onnx.helper.set_model_props(proto, {"wrt_version": version, "what": model.what, **_shapes(graph)})


def _shapes(graph: Any) -> dict[str, str]:
    found = {}
    for kind, values in (("inputs", graph.input), ("outputs", graph.output)):
        shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
        found[kind] = json.dumps(shapes)
    return found


def check(proto: Any) -> None:
    """Refuse what is no model of inference.

    Raises:
        ExportError: an operator of training, of gradients, or of no standard; or a graph that is not whole.
    """
    import onnx

    wrong = {name for graph in (proto.graph, *proto.functions) for name in _foreign(graph)}
    if wrong:
        raise ExportError(f"the graph holds operators that are not for inference: {', '.join(sorted(wrong))}")
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the graph is not valid: {reason(error)}") from error


def _foreign(graph: Any) -> Iterator[str]:
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _foreign(inner)
        training = any(a.name == "training_mode" and a.i for a in node.attribute)
        if node.domain not in OWN_DOMAINS:
            yield f"{node.domain}.{node.op_type}"
        elif training or node.op_type.endswith(("Grad", "Gradient")) or _drops(node):
            yield node.op_type


def _drops(node: Any) -> bool:
    """A Dropout that is told whether it trains."""
    return node.op_type == "Dropout" and len(node.input) > 2


def load(path: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """The function in an ONNX file, run by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, and said once
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return lambda arrays: dict(zip(names, session.run(names, dict(arrays)), strict=True))
