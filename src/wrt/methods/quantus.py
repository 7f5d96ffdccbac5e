"""Methods in the form in which Quantus calls explanations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wrt.derive.layout import of_input, positions
from wrt.engines import adapt
from wrt.errors import InputError
from wrt.methods.explain import explain
from wrt.methods.method import find
from wrt.trees import flatten

UNUSED = ("device", "method")  # what Quantus adds to every call: a place, and the title of the explanation


def explain_func(
    method: str | Callable[..., Any] = "gradient",
    *,
    of: Callable[[Any], Any] | None = None,
    postprocess: str | Callable[..., Any] | None = None,
    **options: Any,
) -> Callable[..., np.ndarray]:
    """A method as a function that Quantus calls, `explain_func=` of its metrics.

    The function is called as `f(model=..., inputs=..., targets=..., **kwargs)` and returns a NumPy array: maps
    in the shape of `inputs`, or with a single channel where the method gives none, `(N, 1, *spatial)`. Quantus puts
    channels first; for a Keras model whose channels are last they are moved there and back. Of the keywords
    that Quantus adds by itself, `device` and `method` (a title) have no effect: the model stays where it is. All others
    are options of the method and win over those given here.

    Args:
        method: a name or function, as in `wrt.explain`.
        of: what becomes of the labels, such as `wrt.logit` where the model ends with a softmax; by default they are the
            units. Without labels the highest unit of each sample is explained.
        postprocess: as in `wrt.explain`; by default maps keep their signs and sizes, and Quantus normalises.
        options: those of the method, such as `steps` or `batch_size`.

    Raises:
        OptionError: an unknown method, at once; an unknown option, when it is called.
        InputError: inputs that are not one array, or maps without the positions of the inputs.

    Example:
        >>> import numpy as np, torch, wrt
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 10))
        >>> explain = wrt.metrics.explain_func("integrated_gradients", steps=8)
        >>> explain(model=model, inputs=np.ones((2, 3, 8, 8), "float32"), targets=np.array([3, 1]), device="cpu").shape
        (2, 3, 8, 8)

    Source: Hedström et al., Quantus: an explainable AI toolkit for responsible evaluation of neural network
    explanations, JMLR 24 (2023).
    """
    find(method)

    def explained(model: Any, inputs: Any, targets: Any = None, **given: Any) -> np.ndarray:
        x = _array(inputs)
        moved = _is_moved(model, x)
        x = np.moveaxis(x, 1, -1) if moved else x
        chosen = _labels(targets, len(x), of)
        more = {**options, **{name: value for name, value in given.items() if name not in UNUSED}}
        maps = np.asarray(explain(method, model, x, chosen, postprocess=postprocess, **more).maps)
        axis = _channel_axis(model, x, moved, options.get("data_format"))
        if maps.shape == (len(x), *positions(x.shape[1:], axis)):
            maps = np.expand_dims(maps, 1 if axis is None else axis)
        elif maps.shape != x.shape:
            raise InputError(f"the maps have shape {maps.shape} and the inputs {x.shape}, so their positions differ")
        return np.moveaxis(maps, -1, 1) if moved else maps

    return explained


def _array(inputs: Any) -> np.ndarray:
    if not flatten(inputs)[1].is_leaf:
        raise InputError(f"inputs is {type(inputs).__name__}; expected one array, axis 0 being samples")
    return np.asarray(inputs)


def _is_moved(model: Any, x: np.ndarray) -> bool:
    """Whether the channels are first in `x` and last in the model."""
    shapes = [spec.shape[1:] for spec in adapt.adapt(model, x, None).network.inputs if spec.shape is not None]
    if len(shapes) != 1 or x.ndim < 3:
        return False
    return not _fits(x.shape[1:], shapes[0]) and _fits((*x.shape[2:], x.shape[1]), shapes[0])


def _channel_axis(model: Any, x: np.ndarray, moved: bool, data_format: str | None) -> int | None:
    """Where the model has its channels; where it does not show them, first, as Quantus has them."""
    if x.ndim < 3:
        return None
    usual = "channels_last" if moved else "channels_first"
    return of_input(model, x, data_format or usual, primary=data_format is not None)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))


def _labels(targets: Any, count: int, of: Callable[[Any], Any] | None) -> Any:
    labels: Any = "max"
    if targets is not None:
        labels = np.full(count, targets) if np.ndim(targets) == 0 else np.asarray(targets)
    return labels if of is None else of(labels)
