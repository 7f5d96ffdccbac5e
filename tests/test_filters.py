"""Filters on maps, against NumPy, for arrays and for the engine's tensors."""

import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import array, close, tensor

import wrt
from wrt.engines import registry
from wrt.errors import InputError, OptionError
from wrt.methods.filters import FILTERS
from wrt.methods.resize import mirrored, resized

MAPS = np.random.default_rng(5).normal(size=(3, 4, 5, 2))
KINDS = [np.asarray, tensor]


def stretched(m):
    low, high = m.min(), m.max()
    return (m - low) / (high - low)


def clipped(m, percent):
    bound = np.percentile(np.abs(m), percent)
    return np.clip(m, -bound, bound)


BY_HAND = {
    "normalize": stretched,
    "signed_normalize": lambda m: m / np.abs(m).max(),
    "positive": lambda m: np.maximum(m, 0),
    "negative": lambda m: np.minimum(m, 0),
    "absolute": np.abs,
    "positive_normalize": lambda m: stretched(np.maximum(m, 0)),
    "negative_normalize": lambda m: stretched(np.maximum(-m, 0)),
    "absolute_normalize": lambda m: stretched(np.abs(m)),
    "reduce_channels": lambda m: np.abs(m).max(-1),
    "clip_percentile": lambda m: clipped(m, 99),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILTERS)
def test_each_map_by_itself(name, kind):
    found = getattr(wrt.filters, name)(kind(MAPS))
    assert (registry.owner(found) is None) == (kind is np.asarray)
    close(found, np.stack([BY_HAND[name](m) for m in MAPS]), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["normalize", "signed_normalize", "absolute_normalize", "clip_percentile"])
def test_each_unit_by_itself(name, kind):
    found = getattr(wrt.filters, name)(kind(MAPS), lead=2)
    close(found, np.stack([[BY_HAND[name](m) for m in unit] for unit in MAPS]), 1e-12)
    assert np.abs(array(found) - array(getattr(wrt.filters, name)(kind(MAPS)))).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.0, 2.5, -3.0, 1e-40, 3e38])
@pytest.mark.parametrize("name", FILTERS)
def test_constants_stay_finite(name, level, kind):
    flat = np.full((2, 3, 4), level, "float32")
    found = array(getattr(wrt.filters, name)(kind(flat)))
    assert np.isfinite(found).all()
    if name in ("normalize", "positive_normalize", "negative_normalize", "absolute_normalize"):
        assert (found == 0).all()


def test_extremes_do_not_overflow():
    wide = np.array([[-3e38, 0, 3e38]], "float32")
    close(wrt.filters.normalize(wide), np.array([[0, 0.5, 1]]), 1e-6)
    close(wrt.filters.positive(wide), np.array([[0, 0, 3e38]]), 1e-6)
    close(wrt.filters.reduce_channels(np.array([[3e30, 4e30]], "float32"), "norm"), np.array([5e30]), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_negative_keeps_the_negatives(kind):
    found = array(wrt.filters.negative(kind(np.array([[-2.0, 0.0, 3.0]]))))
    assert found.tolist() == [[-2.0, 0.0, 0.0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_channels(axis, kind):
    wanted = {
        "max": np.abs(MAPS).max(axis),
        "sum": MAPS.sum(axis),
        "norm": np.sqrt((MAPS**2).sum(axis)),
    }
    for how, by_hand in wanted.items():
        close(wrt.filters.reduce_channels(kind(MAPS), how, axis), by_hand, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percent", [0, 12.5, 50, 90, 99.9, 100])
def test_percentiles_are_those_of_numpy(percent, kind):
    found = wrt.filters.clip_percentile(kind(MAPS), percent)
    close(found, np.stack([clipped(m, percent) for m in MAPS]), 1e-12)


def test_nested_maps():
    found = wrt.filters.normalize({"a": MAPS, "b": [MAPS[:, 0], MAPS[:, 1]]})
    close(found["b"][1], np.stack([stretched(m) for m in MAPS[:, 1]]), 1e-12)
    assert isinstance(found["b"], list)


def test_dtypes_stay():
    for name in FILTERS:
        assert getattr(wrt.filters, name)(MAPS.astype("float32")).dtype == np.float32, name
    assert wrt.filters.normalize(np.array([[1, 2, 3]])).tolist() == [[0.0, 0.5, 1.0]]


def test_no_maps():
    assert wrt.filters.normalize(np.zeros((0, 3))).shape == (0, 3)
    assert wrt.filters.clip_percentile(np.zeros((2, 0))).shape == (2, 0)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: wrt.filters.clip_percentile(MAPS, 101), OptionError, "percent=101"),
        (lambda: wrt.filters.clip_percentile(MAPS, "99"), OptionError, "between 0 and 100"),
        (lambda: wrt.filters.reduce_channels(MAPS, "mean"), OptionError, "'mean'.*'max', 'sum' or 'norm'"),
        (lambda: wrt.filters.reduce_channels(MAPS, "max", 4), InputError, r"\(3, 4, 5, 2\) have no axis 4"),
        (lambda: wrt.filters.reduce_channels(MAPS, "max", 0), InputError, "axis 0 is samples"),
        (lambda: wrt.filters.normalize(MAPS, lead=5), OptionError, "lead=5"),
        (lambda: wrt.filters.normalize(MAPS, lead=0), OptionError, "lead=0"),
    ],
)
def test_mistakes(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


# --- sizes


def interpolated(m, sizes):
    """Pixel by pixel, between the four nearest centres."""
    out = np.zeros(sizes)
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            y = min(max((i + 0.5) * m.shape[0] / sizes[0] - 0.5, 0), m.shape[0] - 1)
            x = min(max((j + 0.5) * m.shape[1] / sizes[1] - 0.5, 0), m.shape[1] - 1)
            a, b = int(y), int(x)
            c, d = min(a + 1, m.shape[0] - 1), min(b + 1, m.shape[1] - 1)
            top = m[a, b] * (1 - (x - b)) + m[a, d] * (x - b)
            out[i, j] = top * (1 - (y - a)) + (m[c, b] * (1 - (x - b)) + m[c, d] * (x - b)) * (y - a)
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(8, 10), (7, 3), (1, 1), (4, 13)])
def test_sizes(sizes, kind):
    engine = registry.engine(ENGINE if kind is tensor else "reference")
    found = resized(engine, kind(MAPS), sizes, 1)
    wanted = np.stack([np.stack([interpolated(m[..., c], sizes) for c in range(2)], -1) for m in MAPS])
    close(found, wanted, 1e-12)
    close(mirrored(engine, kind(MAPS), 2), MAPS[:, :, ::-1], 1e-12)


def test_sizes_as_torch_has_them():
    wanted = torch.nn.functional.interpolate(torch.from_numpy(MAPS), size=(9, 7), mode="bilinear", align_corners=False)
    found = resized(registry.engine("reference"), MAPS, (9, 7), 2)
    close(found, wanted.numpy(), 1e-12)
