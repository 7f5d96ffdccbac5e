"""Exported files, run by their own runtimes without `wrt`, and looked into with `onnx`."""

import numpy as np

# of the standard, for inference, in whatever case; all else that a graph holds is an error
INFERENCE = set(
    """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant ConstantOfShape
    Conv ConvTranspose Cos CumSum Div Einsum Equal Erf Exp Expand Flatten Floor Gather GatherElements Gathernd Gelu Gemm
    GlobalAveragePool Greater GreaterOrEqual HardSigmoid Identity If LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LSTM MatMul Max MaxPool Min Mod Mul Neg Not OneHot Or Pad Pow Range Reciprocal ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ScatterElements Scatternd Shape Sigmoid Sign Sin
    Size Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
    """.split()
)


def run(path, arrays):
    """The outputs of the file by name."""
    return {".onnx": _onnx, ".stablehlo": _stablehlo, "": _saved_model}[path.suffix](path, arrays)


def _onnx(path, arrays):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, arrays), strict=True))


def _stablehlo(path, arrays):
    import jax

    program = jax.export.deserialize(bytearray(path.read_bytes()))
    return {name: np.asarray(value) for name, value in jax.jit(program.call)(arrays).items()}


def _saved_model(path, arrays):
    import tensorflow as tf

    module = tf.saved_model.load(str(path))
    found = module.signatures["serving_default"](**{name: tf.constant(a) for name, a in arrays.items()})
    return {name: value.numpy() for name, value in found.items()}


def operators(path):
    """Domain and name of every operator in an ONNX file, inner graphs and functions included."""
    import onnx

    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [opset.domain for opset in proto.opset_import] in ([""], ["ai.onnx"])
    return {pair for graph in (proto.graph, *proto.functions) for pair in _operators(graph)}


def _operators(graph):
    for node in graph.node:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _operators(inner)


def check_inference_only(path):
    known = {name.lower() for name in INFERENCE}
    foreign = {(domain, name) for domain, name in operators(path) if domain or name.lower() not in known}
    assert not foreign, f"operators that are not for inference: {sorted(foreign)}"


def error(found, wanted):
    """The largest difference relative to the largest number."""
    found, wanted = np.asarray(found, "float64"), np.asarray(wanted, "float64")
    assert found.shape == wanted.shape
    assert np.abs(wanted).max() > 1e-8, "the truth is zero: the comparison says nothing"
    return np.abs(found - wanted).max() / np.abs(wanted).max()
