"""The Jacobian of every sample as a linear operator: products, norms and singular values without the matrix."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wrt.derive.choose import Request
from wrt.derive.job import Options, nest, prepare, with_extra
from wrt.derive.products import Products
from wrt.derive.spectrum import probe_square
from wrt.engines.base import Array
from wrt.errors import OptionError, SelectionError
from wrt.trees import unflatten

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


def linearize(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    batch_size: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
    differentiable: bool = False,
) -> JacobianOperator:
    """The Jacobian of every sample as an operator, `J.matvec(v) = J v`, without forming the matrix.

    With m chosen outputs and n inputs per sample (several are concatenated in order) it stands for N matrices
    `(m, n)`. It keeps `x` and the model, and nothing that these read: weights, and what a function reads, are those of
    the time of each product. The second product of a kind compiles nothing.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them. NumPy in, NumPy out; a tensor in, a tensor out.
        of: the outputs, in the forms of `wrt.gradient`; by default all.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        batch_size: samples at a time.
        max_memory: bytes that may be taken, by default a quarter of what is free.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.
        differentiable: keep a torch graph through the products to `x` and to the weights.

    Returns:
        A `JacobianOperator`: `J.matvec(v)`, `J.rmatvec(u)`, `J.norm(2)`, `J.norm("fro")`, `J.svd(k)`, `J.dense()`,
        and `J[i]`, a `scipy.sparse.linalg.LinearOperator`.

    Raises:
        ModelError: `model` cannot be differentiated.
        InputError: `x` does not fit the model.
        SelectionError: `of` or `wrt` names something that does not exist.

    Example:
        >>> import numpy as np, wrt
        >>> J = wrt.linearize(lambda x: 3 * x, np.ones((2, 4)))
        >>> J.shape
        (2, 4, 4)
        >>> J.norm(2).round(6)
        array([3., 3.])
    """
    request = Request(batch_size=batch_size, max_memory=max_memory, compile=compile)
    options = Options(request, progress=progress, differentiable=differentiable)
    return JacobianOperator(Products(lambda what: prepare(model, x, of, wrt, what, options)))


class JacobianOperator:
    """N Jacobians `(m, n)` known by their products; made by `wrt.linearize`.

    `norm` and `svd` work on the host in float64 and carry no graph: NumPy for NumPy `x`, the same kind of tensor
    for tensors, in the model's precision; an error inside a transformation of the framework.
    """

    def __init__(self, products: Products) -> None:
        self._products = products
        self._shapes = products.any.recipe.shapes
        self._inputs = products.any.recipe.problem.wrt.structure

    @property
    def shape(self) -> tuple[int | None, int, int]:
        """`(N, m, n)`: samples, chosen outputs and inputs per sample."""
        return self._products.shape

    @property
    def output_shape(self) -> Any:
        """`(N, *out)`, nested like the outputs."""
        return unflatten(self._shapes.out_structure, [(self.shape[0], *s) for s in self._shapes.outs])

    @property
    def input_shape(self) -> Any:
        """`(N, *in)`, nested like `x` or `wrt`."""
        return unflatten(self._inputs, [(self.shape[0], *s) for s in self._shapes.ins])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision of the products."""
        return self._products.dtype

    @property
    def output(self) -> Any:
        """The value at `x`, `(N, *out)`, from the last product that was made (or from one with zero)."""
        if self._products.outputs is None:
            zeros = [np.zeros((len(self), *s), self.dtype) for s in self._shapes.outs]
            self._run("vjp", self._products.tensors(zeros))
        return unflatten(self._shapes.out_structure, list(self._products.outputs or ()))

    def __repr__(self) -> str:
        samples, m, n = self.shape
        return f"JacobianOperator({samples} samples, {m} outputs x {n} inputs, on {self._products.any.engine.name})"

    def __len__(self) -> int:
        return self._products.samples

    def matvec(self, v: Any) -> Any:
        """`J v` for every sample: `v` `(N, *in)` nested like `x`, the result `(N, *out)` nested like the outputs.

        Raises:
            InputError: `v` has another nesting or shape.
        """
        checked = with_extra(self._products.now().job("jvp"), v, "v", self._shapes.ins, self._inputs)
        return unflatten(self._shapes.out_structure, self._run("jvp", checked.extra))

    def rmatvec(self, u: Any) -> Any:
        """`Jᵀ u` for every sample: `u` `(N, *out)` nested like the outputs, the result `(N, *in)` nested like `x`.

        Raises:
            InputError: `u` has another nesting or shape.
        """
        checked = with_extra(self._products.now().job("vjp"), u, "u", self._shapes.outs, self._shapes.out_structure)
        return unflatten(self._inputs, self._run("vjp", checked.extra))

    def dense(self) -> Any:
        """The matrices themselves, as `wrt.jacobian` gives them: `(N, *out, *in)`, outputs first, then inputs."""
        return nest(self._products.now().job("rows"), self._run("rows", ()))

    def _run(self, what: str, extra: Sequence[Array]) -> list[Any]:
        return self._products.run(what, extra, self._products.any.options.progress)

    def __getitem__(self, index: Any) -> Any:
        """`J[i]` is sample i as a `scipy.sparse.linalg.LinearOperator` `(m, n)`; `J[a:b]` an operator of fewer samples.

        Raises:
            SelectionError: there is no such sample.
            OptionError: `J[i]` inside a transformation of the framework.
        """
        if isinstance(index, slice):
            return JacobianOperator(self._products.rows(index))
        self._products.need_values("J[i]")
        return self._one(_sample(index, len(self)))

    def _one(self, number: int) -> LinearOperator:
        from scipy.sparse.linalg import LinearOperator

        single = self._products.rows(slice(number, number + 1))
        _, m, n = self.shape
        return LinearOperator(
            (m, n),
            matvec=lambda v: single.now().forth(np.reshape(v, (1, n)))[0],
            rmatvec=lambda u: single.now().back(np.reshape(u, (1, m)))[0],
            dtype=np.float64,
        )

    def norm(
        self, ord: Any = 2, *, probes: int | None = None, tol: float = 1e-6, steps: int | None = None, seed: int = 0
    ) -> Any:
        """A norm of every sample's Jacobian, `(N,)`.

        `2` is the largest singular value, by Lanczos steps of one product either way (as `svd` has them). `1` and `inf`
        are the largest sums of `|J|`, over the outputs for one input and over the inputs for one output; `"fro"` is
        `sqrt(Σ J²)`. These three are exact, from the cheaper of the rows and the columns in batches, of which only the
        sums are kept. With `probes=k` `"fro"` is estimated from k products `uᵀJ` with random orthonormal `u`; the
        square is unbiased with a relative error of about sqrt(2 / k) at worst, and exact when k is the number of
        outputs.

        Raises:
            OptionError: another norm, or inside a transformation of the framework.

        Example:
            >>> import numpy as np, wrt
            >>> wrt.linearize(lambda x: 3 * x, np.ones((2, 4))).norm("fro").round(6)
            array([6., 6.])

        Source: Golub, Kahan 1965; Hutchinson 1990; Hoffman, Roberts, Yaida 2019 (probes).
        """
        self._products.now().need_values("norm")
        if ord not in (1, 2, np.inf, "fro") or (ord != "fro" and probes is not None):
            what = f"ord={ord!r}" if probes is None else f"ord={ord!r} with probes="
            raise OptionError(f'norm: {what} is not a choice; expected 1, 2, inf, or "fro" with or without probes=')
        _check_count("probes", probes)
        _check_count("steps", steps)
        samples, m, n = len(self), *self.shape[1:]
        if not samples * m * n:
            found = np.zeros(samples)
        elif ord == 2:
            found = self._products.spectrum(1, tol, steps, seed).s[:, 0]
        elif ord != "fro":
            found = self._products.magnitudes(axis=0 if ord == 1 else 1)
        elif probes is None:
            found = np.sqrt(self._products.squares())
        else:
            found = np.sqrt(probe_square(self._products.back, samples, m, probes, seed))
        return self._products.result(found)

    def svd(self, k: int, *, tol: float = 1e-6, steps: int | None = None, seed: int = 0) -> tuple[Any, Any, Any]:
        """The `k` largest singular values and their vectors: `U (N, m, k)`, `s (N, k)`, `Vh (N, k, n)`.

        `J ≈ U diag(s) Vh`, s in falling order, as `numpy.linalg.svd` has it with outputs and inputs made flat; vectors
        of one triplet may both change sign. Block Golub-Kahan-Lanczos bidiagonalisation with full
        reorthogonalisation, for all samples at once and in float64: each step costs a product either way, min(m, n)
        steps are exact, and it stops when every `|Jᵀu - s v| <= tol * s_max` (not less than ten roundings of the
        model's dtype); a warning tells when `steps` (by default 300) were too few. Values that occur several times
        are found as often.

        Raises:
            OptionError: `k` is not in 1 to min(m, n), or inside a transformation of the framework.

        Example:
            >>> import numpy as np, wrt
            >>> J = wrt.linearize(lambda x: x * np.array([1.0, 5.0, 2.0]), np.ones((1, 3)))
            >>> U, s, Vh = J.svd(2)
            >>> s.round(6)
            array([[5., 2.]])

        Source: Golub, Kahan 1965; Golub, Luk, Overton 1981; Baglama, Reichel 2005.
        """
        self._products.now().need_values("svd")
        _, m, n = self.shape
        if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= operator.index(k) <= min(m, n):
            raise OptionError(f"svd: k={k!r}; expected an integer from 1 to min(m, n) = {min(m, n)}")
        _check_count("steps", steps)
        found = self._products.spectrum(operator.index(k), tol, steps, seed)
        u, s, vh = map(self._products.result, (found.u, found.s, found.vh))
        return u, s, vh


def _sample(index: Any, samples: int) -> int:
    if isinstance(index, bool) or not hasattr(index, "__index__"):
        raise SelectionError(f"J[{index!r}]: expected the number of a sample, or a slice")
    number = operator.index(index)
    if not -samples <= number < samples:
        raise SelectionError(f"J[{number}]: there are {samples} samples, 0 to {samples - 1}")
    return number % samples


def _check_count(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__") or value < 1):
        raise OptionError(f"{name}={value!r}; expected an integer of at least 1, or None")
