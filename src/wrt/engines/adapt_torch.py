"""torch modules and torch functions as pure functions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from wrt.engines import registry, torch_layout
from wrt.engines.base import Array, Arrays
from wrt.engines.identity import attributes, identity
from wrt.engines.network import Network, Taps, WeakCache, arguments, weak
from wrt.engines.torch_state import copied, undisturbed
from wrt.errors import SelectionError, suggest
from wrt.rules import ACTIVATIONS, Rule, Switch, canonical
from wrt.trees import map_leaves

ENDS = {
    torch.softmax,
    torch.log_softmax,
    torch.sigmoid,
    torch.special.expit,
    torch.special.softmax,
    torch.special.log_softmax,
    torch.nn.functional.softmax,
    torch.nn.functional.log_softmax,
    torch.nn.functional.sigmoid,
    torch.nn.functional.logsigmoid,
    torch.Tensor.softmax,
    torch.Tensor.log_softmax,
    torch.Tensor.sigmoid,
}

CONVOLUTIONS = (
    torch.nn.Conv1d,
    torch.nn.Conv2d,
    torch.nn.Conv3d,
    torch.nn.ConvTranspose1d,
    torch.nn.ConvTranspose2d,
    torch.nn.ConvTranspose3d,
)

EMBEDDINGS = (torch.nn.Embedding, torch.nn.EmbeddingBag)
NORMALIZATIONS = (torch.nn.modules.batchnorm._NormBase,)  # affine where they use statistics of the training
AFFINE = (torch.nn.Linear, *CONVOLUTIONS, *EMBEDDINGS, *NORMALIZATIONS)


_known = WeakCache()  # the names of a module's tensors, as they were when its weights were last read


def weights(module: torch.nn.Module, live: bool) -> Arrays:
    """Parameters and buffers as they are now."""
    found = tensors(module)
    _known.of(module)["names"] = [names for names, _ in found]
    values = [value for _, value in found]
    return values if live else [v.detach() for v in values]


def adapt(module: torch.nn.Module) -> Network:
    """The network of a `torch.nn.Module`."""
    alive = weak(module)

    def apply(state: Arrays, x: Any, taps: Taps) -> Any:
        module = alive()
        weights = _named(module, state)
        args, kwargs = arguments(module.forward, map_leaves(torch.clone, x))  # a module may write into its input
        with copied(module, weights, taps.training), undisturbed(module, taps.training), _hooked(module, taps):
            y = torch.func.functional_call(*_callable(module, weights), args, kwargs, tie_weights=False)
        taps.finish()
        return y

    return Network(
        engine=registry.engine("torch"),
        apply=apply,
        like=lambda: next((value for _, value in tensors(alive())), None),
        layers=lambda: [name for name, _ in alive().named_modules() if name],
        embeddings=lambda: _of_kind(alive(), EMBEDDINGS),
        convolutions=lambda: _of_kind(alive(), CONVOLUTIONS),
        affine=lambda: _affine(alive()),
        owners=lambda: [names[0].rpartition(".")[0] for names, _ in tensors(alive())],
        fingerprint=lambda: tuple((type(m), attributes(m)) for m in alive().modules()),
        kind="torch",
        usual=lambda name, rank: torch_layout.convention(alive(), name, rank),
    )


def _callable(module: torch.nn.Module, weights: dict[str, Array]) -> tuple[torch.nn.Module, dict[str, Array]]:
    """The module as `functional_call` takes it: a script module only inside of another one."""
    if not isinstance(module, torch.jit.ScriptModule):
        return module, weights
    return _Holder(module), {f"held.{name}": value for name, value in weights.items()}


class _Holder(torch.nn.Module):
    def __init__(self, held: torch.nn.Module) -> None:
        super().__init__()
        self.held = held

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.held(*args, **kwargs)


def adapt_function(function: Any) -> Network:
    """The network of a function of torch tensors."""

    alive = weak(function)

    def apply(state: Arrays, x: Any, taps: Taps) -> Any:
        for name in taps.names:
            raise SelectionError(f"layer {name!r}: a function has no named layers; pass the torch.nn.Module itself")
        function = alive()
        noting = _Activations(taps) if taps.want_logit else contextlib.nullcontext()
        with undisturbed(function, taps.training, everywhere=True), noting:
            args, kwargs = arguments(function, map_leaves(torch.clone, x))
            return function(*args, **kwargs)

    engine = registry.engine("torch")
    return Network(engine, apply, fingerprint=lambda: identity(alive()))


def tensors(module: torch.nn.Module) -> list[tuple[list[str], Array]]:
    """Parameters and buffers, each once, with all of its names."""
    found: dict[int, tuple[list[str], Array]] = {}
    for named in (module.named_parameters, module.named_buffers):
        for name, value in named(remove_duplicate=False):
            found.setdefault(id(value), ([], value))[0].append(name)
    return list(found.values())


def _named(module: torch.nn.Module, values: Arrays) -> dict[str, Array]:
    """These values by the names of the module's tensors, which a step of an ascent does not look up anew."""
    names = _known.of(module).get("names")
    if names is None or len(names) != len(values):
        names = [names for names, _ in tensors(module)]
    return {name: value for every, value in zip(names, values, strict=True) for name in every}


def _of_kind(module: torch.nn.Module, kinds: tuple[type, ...]) -> list[str]:
    return [name for name, inner in module.named_modules() if isinstance(inner, kinds)]


@contextlib.contextmanager
def _hooked(module: torch.nn.Module, taps: Taps) -> Iterator[None]:
    """Put the taps on, for one call, as forward hooks that are taken off again whatever happens."""
    with contextlib.ExitStack() as stack:
        for name in {name for name, _ in taps.before}:
            handle = _find(module, name).register_forward_hook(_affine_hook(name, taps), with_kwargs=True)
            stack.callback(handle.remove)
        for name in taps.names:
            handle = _find(module, name).register_forward_hook(_hook(name, taps))
            stack.callback(handle.remove)
        for key, rule in taps.rules:
            for name, inner in _with_rule(module, key).items():
                _rule(stack, name, inner, rule, taps.switch)
                taps.ruled.add(key)
        if taps.want_logit:
            stack.enter_context(_Activations(taps))
        yield


def _with_rule(module: torch.nn.Module, key: str) -> dict[str, torch.nn.Module]:
    """The modules that a key of `rules=` names, itself or by their type; none where it names an activation."""
    if canonical(key) in ACTIVATIONS:
        return {}
    modules = {name: inner for name, inner in module.named_modules() if name}
    if key in modules:
        return {key: modules[key]}
    return {name: inner for name, inner in modules.items() if type(inner).__name__ == key}


def _rule(stack: contextlib.ExitStack, name: str, module: torch.nn.Module, rule: Rule, switch: Switch) -> None:
    """For one call: the module's whole forward ruled."""
    if any(True for _ in module.parameters()):
        raise SelectionError(
            f"rules={{{name!r}: ...}}: the module has weights; a rule takes the place of an activation's derivative, "
            "so name the module of the activation, or the activation itself: rules={'relu': ...}"
        )
    original, engine = module.forward, registry.engine("torch")

    def forward(x: Array, *args: Any, **kwargs: Any) -> Array:
        return engine.with_backward(lambda t: original(t.clone(), *args, **kwargs), rule, switch)(x)

    own = "forward" in module.__dict__
    module.forward = forward
    stack.callback(lambda: setattr(module, "forward", original) if own else delattr(module, "forward"))


def _find(module: torch.nn.Module, name: str) -> torch.nn.Module:
    modules = {key: inner for key, inner in module.named_modules(remove_duplicate=False) if key}
    if name not in modules:
        raise SelectionError(f"unknown layer {name!r}.{suggest(name, modules)}")
    return modules[name]


def _hook(name: str, taps: Taps) -> Any:
    def hook(module: torch.nn.Module, args: Any, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return taps.several(name)
        return taps.visit(name, value).clone()  # the next module may write into it

    return hook


def _affine(module: torch.nn.Module) -> dict[str, int | None]:
    """Modules that are affine in inference and add something, and the axis of their channels."""
    found = {name: inner for name, inner in module.named_modules() if isinstance(inner, AFFINE) and _adds(inner)}
    last = (torch.nn.Linear, *EMBEDDINGS)
    return {name: -1 if isinstance(inner, last) else 1 for name, inner in found.items()}


def _adds(module: Any) -> bool:
    if isinstance(module, NORMALIZATIONS):
        return module.running_mean is not None
    return isinstance(module, EMBEDDINGS) or module.bias is not None


def _affine_hook(name: str, taps: Taps) -> Any:
    def hook(module: torch.nn.Module, args: Any, kwargs: Any, value: Array) -> Array:
        if isinstance(module, EMBEDDINGS):  # there is no derivative on the way in: all of it is constant
            constant = value
        else:
            first, *rest = args or (kwargs["input"],)
            others = {key: a for key, a in kwargs.items() if key != "input"}
            constant = module.forward(torch.zeros_like(first[:1]), *rest, **others)
        return taps.enter(name, value, constant).clone()  # the next module may write into it

    return hook


class _Activations(TorchFunctionMode):
    """Notes the argument of every softmax and sigmoid."""

    def __init__(self, taps: Taps) -> None:
        super().__init__()
        self.taps = taps

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in ENDS:
            kind = "softmax" if "softmax" in func.__name__ else "sigmoid"
            self.taps.logits.append((result, args[0] if args else kwargs["input"], kind))
        return result
