"""The state of a user's torch modules: in inference mode for one evaluation, and afterwards as it was."""

from __future__ import annotations

import contextlib
import functools
import threading
import types
from collections.abc import Iterator
from typing import Any

import torch

from wrt.engines.base import Array
from wrt.engines.network import WeakCache

RENORMED = (torch.nn.Embedding, torch.nn.EmbeddingBag)  # with max_norm they write into their weights

_written = WeakCache()  # of modules: the names of their buffers that evaluations wrote into, once there was one


@contextlib.contextmanager
def undisturbed(owner: Any, training: bool, everywhere: bool = False) -> Iterator[_Visit]:
    """The modules of `owner`, a module or a function, in inference mode (or as they are) for one evaluation.

    Their modes are put back, and tensors that a forward pass leaves in attributes (weights that old-style hooks make
    anew, caches) are those from before. `everywhere`: also modules that a function calls, wherever it has them from,
    and their buffers and renormalised weights are copies for the time.
    """
    visit = _Visit(training, everywhere)
    watch = everywhere and not torch.compiler.is_compiling()
    hook = torch.nn.modules.module.register_module_forward_pre_hook(visit.called) if watch else None
    try:
        for module in _modules(owner):
            visit.enter(module)
        yield visit
    finally:
        if hook is not None:
            hook.remove()
        visit.leave()


class _Visit:
    """The modules that one evaluation has met, and how they were."""

    def __init__(self, training: bool, copies: bool) -> None:
        self.training = training
        self.copies = copies
        self.thread = threading.get_ident()
        self.met: dict[int, tuple[torch.nn.Module, bool, dict[str, Any]]] = {}
        self.replaced: list[tuple[dict[str, Any], str, Array]] = []
        self.copied: list[tuple[torch.nn.Module, str, Array]] = []

    def called(self, module: torch.nn.Module, args: Any) -> None:
        """A hook before every module's forward pass."""
        if id(module) not in self.met and threading.get_ident() == self.thread:
            self.enter(module)

    def enter(self, module: torch.nn.Module) -> None:
        for inner in module.modules():
            if id(inner) not in self.met:
                self.met[id(inner)] = inner, inner.training, dict(inner.__dict__)
                if self.copies:
                    self._copy(inner)
                if inner.training and not self.training:
                    _set_mode(inner, False)

    def _copy(self, module: torch.nn.Module) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            return
        for name, value in list(module._buffers.items()):
            if value is not None and (self.training or _may_be_written(module, name)):
                self.replace(module._buffers, name, value.clone())
                self.copied.append((module, name, module._buffers[name]))
        if _renorms(module):
            self.replace(module._parameters, "weight", module.weight.clone())

    def replace(self, place: dict[str, Any], name: str, value: Array) -> None:
        """Another tensor in the place of a parameter or buffer."""
        self.replaced.append((place, name, place[name]))
        place[name] = value

    def leave(self) -> None:
        for module, name, copy in self.copied:
            _note_written(module, name, copy)
        for place, name, value in reversed(self.replaced):
            place[name] = value
        for module, training, attributes in self.met.values():
            if module.training != training:
                _set_mode(module, training)
            _put_back(module, attributes)


@contextlib.contextmanager
def copied(module: torch.nn.Module, weights: dict[str, Array], training: bool) -> Iterator[None]:
    """Copies among these weights, by names, of those that an evaluation may write into."""
    for name, value in weights.items():
        if training and not value.requires_grad:
            weights[name] = value.clone()
    watched = []
    for path, inner in module.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        if isinstance(inner, torch.jit.ScriptModule):
            continue
        names = [] if training else [n for n in inner._buffers if _may_be_written(inner, n)]
        for name in [*names, *(["weight"] if _renorms(inner) else [])]:
            weights[prefix + name] = copy = weights[prefix + name].clone()
            watched.append((inner, name, copy))
    yield
    for inner, name, copy in watched:
        _note_written(inner, name, copy)


def _renorms(module: torch.nn.Module) -> bool:
    """Whether a forward pass writes into the weights."""
    return isinstance(module, RENORMED) and module.max_norm is not None


def _may_be_written(module: torch.nn.Module, name: str) -> bool:
    """Whether evaluations write into this buffer; until there was one nobody knows."""
    names = _written.of(module).get("names")
    return module._buffers[name] is not None and (names is None or name in names)


def _note_written(module: torch.nn.Module, name: str, copy: Array) -> None:
    """Remember whether an evaluation wrote into its fresh copy of a buffer."""
    names = _written.of(module).setdefault("names", set())
    if not torch.compiler.is_compiling() and not copy.is_inference() and copy._version:
        names.add(name)


def _set_mode(module: torch.nn.Module, training: bool) -> None:
    """Without the module's own `train`, which some models overwrite, and without Keras's book of attributes."""
    if isinstance(module, torch.jit.ScriptModule):  # keeps it elsewhere
        module.training = training
    else:
        object.__setattr__(module, "training", training)


def _put_back(module: torch.nn.Module, attributes: dict[str, Any]) -> None:
    """The tensors among the attributes, as they were, or none where there was none."""
    now = module.__dict__
    for name in [k for k, v in now.items() if isinstance(v, torch.Tensor) and attributes.get(k) is not v]:
        if name in attributes:
            now[name] = attributes[name]
        else:
            del now[name]


def _modules(owner: Any) -> list[torch.nn.Module]:
    """The module itself, or those that a function holds: in its closure, defaults, globals, object or parts."""
    if isinstance(owner, torch.nn.Module):
        return [owner]
    if isinstance(owner, functools.partial):
        held = [owner.func, *owner.args, *owner.keywords.values()]
    elif isinstance(owner, types.MethodType):
        held = [owner.__self__, owner.__func__]
    elif isinstance(owner, types.FunctionType):
        held = _held(owner)
    else:
        held = list(getattr(owner, "__dict__", {}).values())
    return [module for value in held for module in _of_value(value)]


def _of_value(value: Any) -> list[torch.nn.Module]:
    if isinstance(value, (list, tuple)):
        return [module for inner in value for module in _of_value(inner)]
    if isinstance(value, dict):
        return _of_value(list(value.values()))
    if isinstance(value, (torch.nn.Module, functools.partial, types.MethodType)):
        return _modules(value)
    return []


def _held(function: types.FunctionType) -> list[Any]:
    cells = [c.cell_contents for c in function.__closure__ or () if c != types.CellType()]
    globals_ = [function.__globals__[n] for n in function.__code__.co_names if n in function.__globals__]
    return [*cells, *globals_, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
