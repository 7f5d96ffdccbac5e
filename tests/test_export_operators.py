"""ONNX files of torch modules: operators that ONNX does not have, or that are not for inference, are named."""

import numpy as np
import pytest
import torch
from exported import check_inference_only, error, run
from torch import nn

import wrt
from wrt.errors import ExportError
from wrt.models import onnx_export

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


REFUSED = {
    "svd": (lambda x: torch.linalg.svdvals(x.reshape(-1, 2, 3)), "ONNX has no operator for aten._linalg_svd"),
    "windows of two sizes": (
        lambda x: nn.functional.adaptive_max_pool2d(x.reshape(-1, 1, 2, 3), (1, 2)),
        "ONNX has no operator for aten.adaptive_max_pool2d",
    ),
    "four samples": (lambda x: x.reshape(4, 6), "cannot be traced for any number of samples|works for one number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    function, message = REFUSED[name]
    with pytest.raises(ExportError, match=message):
        wrt.export(Applied(function), tmp_path / "file.onnx", X)
    assert not any(tmp_path.iterdir())


def model_of(*nodes):
    import onnx

    value = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 6]) for name in "xy"]
    graph = onnx.helper.make_graph(list(nodes), "graph", value[:1], value[1:])
    return onnx.helper.make_model(graph)


def node(name, *inputs, **attributes):
    import onnx

    return onnx.helper.make_node(name, list(inputs), ["y"], **attributes)


FOREIGN = {
    "com.microsoft.FusedGemm": lambda: node("FusedGemm", "x", domain="com.microsoft"),
    "ai.onnx.preview.training.Gradient": lambda: node("Gradient", "x", domain="ai.onnx.preview.training"),
    "ConvGrad": lambda: node("ConvGrad", "x"),
    "BatchNormalization": lambda: node("BatchNormalization", "x", "x", "x", "x", "x", training_mode=1),
    "Dropout": lambda: node("Dropout", "x", "ratio", "training"),
    "inside.Loop": lambda: node("If", "x", then_branch=model_of(node("Loop", "x", domain="inside")).graph),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign(name):
    with pytest.raises(ExportError, match=f"not for inference: {name}$"):
        onnx_export.check(model_of(FOREIGN[name]()))


def test_inference_is_let_through():
    onnx_export.check(model_of(node("Relu", "x")))


def test_graph_that_is_not_whole():
    with pytest.raises(ExportError, match="the graph is not valid"):
        onnx_export.check(model_of(node("Relu", "nothing")))


def test_too_large_for_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "LARGEST", 100)
    with pytest.raises(ExportError, match="the weights take 168 bytes; an ONNX file holds at most 100"):
        wrt.export(nn.Linear(6, 6), tmp_path / "file.onnx", X)


def test_the_model_stays_as_it_is(tmp_path):
    """Training mode, gradients and torch's own settings."""
    net = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fast = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    wrt.export(net, tmp_path / "file.onnx", X, of=1)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(part.training for part in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert fast == (torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled)


def test_fused_layers(tmp_path):
    """Forward, where torch would call one fused operator for a whole layer, in the numbers of the module itself."""
    encoder = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    net = nn.Sequential(nn.Unflatten(1, (1, 6)), encoder, nn.LSTM(6, 2, batch_first=True)).eval()
    last = Applied(lambda x: net(x)[0][:, -1])
    last.net = net  # its weights are weights then, and no constants
    path = wrt.export(last, tmp_path / "file.onnx", X)
    check_inference_only(path)
    x = np.random.default_rng(1).normal(size=(7, 6)).astype("float32")
    with torch.no_grad():
        assert error(run(path, {"x": x})["output"], net(torch.from_numpy(x))[0][:, -1]) < 1e-5
