"""FullGrad: the output taken apart into shares of the input and of every bias, and the map made of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from wrt.derive.first import check_scalar, squeezed, warn_saturated
from wrt.derive.inputs import Inputs, accept, engine_of, resolve
from wrt.derive.job import Job, prepare
from wrt.derive.layers import calls
from wrt.derive.layout import of_input
from wrt.derive.losses import wide
from wrt.derive.run import Result, run
from wrt.engines import adapt, registry
from wrt.engines.base import Array, Arrays, Engine
from wrt.engines.network import Network, Site
from wrt.errors import SelectionError
from wrt.methods.filters import normalize, reduce_channels
from wrt.methods.method import Common, options_of, register
from wrt.methods.resize import resized
from wrt.select import Layer
from wrt.trees import unflatten

Shape = tuple[int, ...]


@register(
    paper="Srinivas and Fleuret, Full-gradient representation for neural network visualization, NeurIPS 2019 "
    "(arXiv:1905.00780)",
    postprocess="positive_normalize",
)
def full_gradient(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    rescale: bool = True,
    contributions: bool = False,
    with_output: bool = False,
    with_gap: bool = False,
    **options: Unpack[Common],
) -> Any:
    """FullGrad: the share of every bias in the output, beside that of the input.

    y_of(x) = sum_i x[i] dy/dx[i] + sum over layers l, positions p and channels c of b_l[p, c] dy/dz_l[p, c], z_l being
    what an affine layer gives before its activation, and b_l what it gives for an input of zeros: the bias of a
    convolution, and for batch normalisation all that its running statistics add. The equation is exact for networks
    of affine layers, residual additions, ReLU, leaky ReLU, maximum and average pooling; with other activations (tanh,
    GELU, softmax, ReLU6), attention or constants outside of such layers a gap remains, see `with_gap`.

    The map is psi(x * dy/dx) + sum_l psi(b_l * dy/dz_l), psi being magnitudes, stretched to the range from 0 to 1,
    summed over channels and resized linearly to the positions of the input: `(N, *spatial)`, or `(N, K, *spatial)` for
    K units. Layers count that have as many axes of positions as the input; those of a classifier at the end do not. An
    input `(N, F)` has F positions and no channels; of integers, embeddings take the place of the input's share.

    Args:
        model: a Keras model or a `torch.nn.Module`: functions have no layers that could be found.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`; `wrt.logit(unit)` where the model ends with a softmax.
        wrt: the input over which the map is made, by index or name; needed where there are several.
        rescale: stretch the shares of every layer, of one sample and unit, to the range from 0 to 1, as the authors'
            code does; else magnitudes are added up as they are.
        contributions: return the shares in place of the map, a dict: `"input"`, `(N, *in)` or `(N, K, *in)`
            (`"input[name]"` where there are several), and by the name of each layer `(N, *layer)` or
            `(N, K, *layer)` (`"name[0]"`, `"name[1]"`, ... for the calls of a layer that is called several times). For
            direct calls: `wrt.explain` would resize and stretch them.
        with_output: return the chosen outputs as well.
        with_gap: return the completeness gap as well, last: the sum of all shares minus the output.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        SelectionError: the model is a function or a single layer, or `of` or `wrt` is missing, unknown or out of range.
        DtypeError: `x` holds integers, and the model has no embedding.

    Example:
        >>> import torch, wrt
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
        >>> for p, v in zip(model.parameters(), ([[2.0], [1.0]], [3.0, -0.5], [[4.0, 5.0]], [0.5])):
        ...     p.data = torch.tensor(v)
        >>> x = torch.tensor([[1.0]])  # 4 relu(2 x + 3) + 5 relu(x - 0.5) + 0.5
        >>> wrt.methods.full_gradient(model, x, contributions=True)
        {'input': tensor([[13.]]), '0': tensor([[12.0000, -2.5000]]), '2': tensor([[0.5000]])}
        >>> model(x).item()
        23.0

    Source: Srinivas and Fleuret, NeurIPS 2019, proposition 1 and equation 4. The authors' code interpolates with
    aligned corners, this library between the centres of cells.
    """
    parts = _parts(model, x, wrt, contributions, options.get("data_format"))
    wanted = dataclasses.replace(options_of(options), with_output=with_output, with_values=True, affine=True)
    job = prepare(model, x, of, parts.chosen, "rows", wanted)
    check_scalar(job, of)
    width, across = len(job.recipe.shapes.outs), len(parts.names) if contributions else 1
    result = run(dataclasses.replace(job, reduce=lambda r: _reduced(job, r, parts, rescale, contributions, with_gap)))
    warn_saturated(job, Result(result.outputs[:width], []))
    ends = squeezed(job, of, result)
    rows = [ends.blocks[j * across : (j + 1) * across] for j in range(width)]
    found = [[dict(zip(parts.names, row, strict=True)) if contributions else row[0] for row in rows]]
    found += [ends.outputs[:width]] if with_output else []
    found += [ends.outputs[width:]] if with_gap else []
    trees = [unflatten(job.recipe.shapes.out_structure, leaves) for leaves in found]
    return trees[0] if len(trees) == 1 else tuple(trees)


@dataclass(frozen=True)
class Parts:
    """What the output is taken apart into: inputs by number, then calls of affine layers."""

    names: tuple[str, ...]
    chosen: list[int | Layer]
    shown: tuple[tuple[int, int | None], ...]  # numbers of those in the map, and the axis of their channels
    sizes: Shape  # of the map


def _parts(model: Any, x: Any, wrt: Any, contributions: bool, data_format: str | None) -> Parts:
    kind = engine_of(x)
    network = adapt.adapt(model, x, kind).network
    axes = _affine(network)
    inputs = accept(network, x, kind)
    place, numbers = _place(network, inputs, wrt, contributions), _floats(network, inputs)
    layers = [(site, shape, axes[site[0]]) for site, shape in calls(model, x) if site[0] in axes]
    single = len(inputs.leaves) == 1
    titles = ["input" if single else f"input[{inputs.names[i]}]" for i in numbers]
    names = (*titles, *_titles([site for site, _, _ in layers], titles))
    chosen: list[int | Layer] = [*numbers]
    chosen += [Layer(name, call=call) for (name, call), _, _ in layers]
    if place is None:
        return Parts(names, chosen, (), ())
    whole, places = tuple(inputs.leaves[place].shape[1:]), [(shape, axis) for _, shape, axis in layers]
    axis = of_input(model, x, data_format, number=place)
    sizes = _positions(whole, axis)
    shown = [(numbers.index(place), axis)] if place in numbers else []
    shown += [(k, a) for k, (s, a) in enumerate(places, len(numbers)) if a and len(_positions(s, a)) == len(sizes)]
    return Parts(names, chosen, tuple(shown), sizes) if shown or contributions else _nothing(whole)


def _floats(network: Network, inputs: Inputs) -> list[int]:
    """The inputs that have shares."""
    numbers = [i for i, dtype in enumerate(inputs.dtypes) if "float" in dtype]
    if not numbers and not network.embeddings():
        resolve(None, inputs, network)  # its error says what to do about integers
    return numbers


def _affine(network: Network) -> dict[str, int | None]:
    if network.kind == "function":
        raise SelectionError(
            "full_gradient needs the layers and their biases, and a function has no named layers; pass the Keras model "
            "or torch.nn.Module itself"
        )
    axes = network.affine()
    if "" in axes:
        raise SelectionError(
            "full_gradient: the model is a single layer, which is not reached inside itself; put it into a model: "
            "keras.Sequential([layer]), torch.nn.Sequential(layer)"
        )
    return axes


def _place(network: Network, inputs: Inputs, wrt: Any, contributions: bool) -> int | None:
    """The number of the input over which the map is made."""
    if wrt is not None:
        chosen = resolve(wrt, inputs, network)
        if chosen.sites or len(chosen.inputs) != 1:
            raise SelectionError(
                f"wrt={wrt!r}: the map is made over one input, and embeddings and biases count in any case; give the "
                "index or name of an input, or leave wrt out where there is only one"
            )
        return chosen.inputs[0]
    if len(inputs.leaves) > 1 and not contributions:
        raise SelectionError(
            f"x has the inputs {list(inputs.names)}; say over which of them the map is made: wrt={inputs.names[0]!r}, "
            "or take all shares with contributions=True"
        )
    return 0 if len(inputs.leaves) == 1 else None


def _titles(sites: list[Site], taken: list[str]) -> list[str]:
    """A name for each call: that of the layer where it is called once."""
    names = [name for name, _ in sites]
    return [n if names.count(n) == 1 and n not in taken else f"{n}[{call}]" for n, call in sites]


def _positions(shape: Shape, axis: int | None) -> Shape:
    """A shape per sample without its channels; `axis` counts the samples."""
    if axis is None:
        return shape
    skip = axis % (len(shape) + 1) - 1
    return shape[:skip] + shape[skip + 1 :]


def _nothing(shape: Shape) -> Parts:
    raise SelectionError(
        f"full_gradient: neither x nor a layer has a share with the positions of x, (N, {', '.join(map(str, shape))}); "
        "take the shares themselves with contributions=True"
    )


def _reduced(job: Job, result: Result, parts: Parts, rescale: bool, contributions: bool, with_gap: bool) -> Result:
    """A batch of values and gradients becomes shares or maps before the next one is loaded."""
    home = registry.engine("reference") if job.inputs.host else job.engine
    outs, across = job.recipe.shapes.outs, len(parts.names)
    outputs, values = result.outputs[: len(outs)], result.outputs[len(outs) :]
    found: Arrays = []
    gaps: Arrays = []
    for j, out in enumerate(outs):
        lead = 1 + len(out)
        rows = result.blocks[j * across : (j + 1) * across]
        pairs = [(_wide(home, v), _wide(home, g)) for v, g in zip(values, rows, strict=True)]
        shares = [(v[:, None] if out else v) * g for v, g in pairs]
        found += shares if contributions else [_map(home, shares, parts, lead, rescale)]
        gaps += [_gap(home, shares, outputs[j], lead)] if with_gap else []
    return Result([*outputs, *gaps], found)


def _wide(home: Engine, value: Array) -> Array:
    if isinstance(value, np.ndarray):
        return value.astype(np.result_type(value, np.float32), copy=False)
    return wide(home, value)


def _gap(home: Engine, shares: Arrays, output: Array, lead: int) -> Array:
    gap = -_wide(home, output)
    for share in shares:
        gap = gap + home.sum(share, tuple(range(lead, len(share.shape))))
    return gap


def _map(home: Engine, shares: Arrays, parts: Parts, lead: int, rescale: bool) -> Array:
    total: Any = 0
    for number, axis in parts.shown:
        share = abs(shares[number])
        share = normalize(share, lead) if rescale else share
        if axis is not None:
            share = reduce_channels(share, "sum", axis + lead - 1 if axis > 0 else axis)
        total = total + resized(home, share, parts.sizes, lead)
    return total
