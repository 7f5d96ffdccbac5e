"""The Jacobian of every sample as a linear operator: products, norms and singular values without the matrix."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wrt.derive.choose import Request
from wrt.derive.run import Job, Options, nest, prepare, run, with_extra
from wrt.derive.spectrum import probe_square, triplets
from wrt.engines.base import Array, Arrays
from wrt.errors import OptionError, SelectionError
from wrt.progress import progress_bar
from wrt.trees import unflatten

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

STEPS = 300  # Lanczos steps before it gives up, unless told otherwise
TYPICAL_STEPS = 40  # for which memory is set aside
PRECISION = 10  # units of rounding of the model's dtype below which no residual can be expected


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

    Arguments are those of `wrt.jacobian`. With m chosen outputs and n inputs per sample (several are concatenated
    in order) the operator stands for N matrices `(m, n)`. It keeps `x` and the model, and uses the weights that
    the model has at the time of each product. The second product of a kind compiles nothing.

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
    return JacobianOperator(lambda what: prepare(model, x, of, wrt, what, options))


class JacobianOperator:
    """N Jacobians `(m, n)` known by their products; made by `wrt.linearize`.

    `norm` and `svd` work on the host in float64 and carry no graph: NumPy for NumPy `x`, the same kind of tensor
    for tensors, an error inside a transformation of the framework.
    """

    def __init__(self, make: Callable[[str], Job]) -> None:
        self._make = make
        self._jobs: dict[str, Job] = {}
        self._output: Arrays | None = None
        self._job("vjp")  # so that errors come here

    def _job(self, what: str) -> Job:
        if what not in self._jobs:
            self._jobs[what] = self._make(what)
        return self._jobs[what]

    # what it is

    @property
    def shape(self) -> tuple[int | None, int, int]:
        """`(N, m, n)`: samples, chosen outputs and inputs per sample."""
        job = self._job("vjp")
        return job.inputs.samples, job.recipe.shapes.outputs, job.recipe.shapes.inputs

    @property
    def output_shape(self) -> Any:
        """`(N, *out)`, nested like the outputs."""
        shapes = self._job("vjp").recipe.shapes
        return unflatten(shapes.out_structure, [(self.shape[0], *s) for s in shapes.outs])

    @property
    def input_shape(self) -> Any:
        """`(N, *in)`, nested like `x` or `wrt`."""
        job = self._job("vjp")
        return unflatten(job.recipe.problem.wrt.structure, [(self.shape[0], *s) for s in job.recipe.shapes.ins])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision of the products."""
        kinds = [d for d in self._job("vjp").inputs.dtypes if "float" in d]
        name = kinds[0] if kinds else self._job("vjp").adapted.network.dtype or "float32"
        return np.dtype("float32" if name == "bfloat16" else name)

    @property
    def output(self) -> Any:
        """The value at `x`, `(N, *out)`, from the first product that was made (or from one with zero)."""
        if self._output is None:
            job = self._job("vjp")
            sizes = [(self.shape[0] or 0, *s) for s in job.recipe.shapes.outs]
            self._run("vjp", self._tensors([np.zeros(s, self.dtype) for s in sizes]), job.options.progress)
        return unflatten(self._job("vjp").recipe.shapes.out_structure, list(self._output or []))

    def __repr__(self) -> str:
        samples, m, n = self.shape
        return f"JacobianOperator({samples} samples, {m} outputs x {n} inputs, on {self._job('vjp').engine.name})"

    def __len__(self) -> int:
        return self.shape[0] or 0

    # products

    def matvec(self, v: Any) -> Any:
        """`J v` for every sample: `v` `(N, *in)` nested like `x`, the result `(N, *out)` nested like the outputs.

        Raises:
            InputError: `v` has another nesting or shape.
        """
        job = self._job("jvp")
        shapes = job.recipe.shapes
        checked = with_extra(job, v, "v", shapes.ins, job.recipe.problem.wrt.structure)
        return unflatten(shapes.out_structure, self._run("jvp", checked.extra, job.options.progress))

    def rmatvec(self, u: Any) -> Any:
        """`Jᵀ u` for every sample: `u` `(N, *out)` nested like the outputs, the result `(N, *in)` nested like `x`.

        Raises:
            InputError: `u` has another nesting or shape.
        """
        job = self._job("vjp")
        shapes = job.recipe.shapes
        checked = with_extra(job, u, "u", shapes.outs, shapes.out_structure)
        return unflatten(job.recipe.problem.wrt.structure, self._run("vjp", checked.extra, job.options.progress))

    def dense(self) -> Any:
        """The matrices themselves, as `wrt.jacobian` gives them: `(N, *out, *in)`, outputs first, then inputs."""
        job = self._job("rows")
        result = run(job)
        self._output = result.outputs
        return nest(job, result.blocks)

    def _run(self, what: str, extra: Sequence[Array], progress: bool | None) -> Arrays:
        job = self._job(what)
        options = dataclasses.replace(job.options, progress=progress)
        result = run(dataclasses.replace(job, extra=tuple(extra), options=options))
        self._output = result.outputs
        return result.blocks

    def push(self, v: np.ndarray) -> np.ndarray:
        """`J v` for flat host vectors, `(N, n)` to `(N, m)` in float64."""
        ins = self._job("jvp").recipe.shapes.ins
        return self._flat(self._run("jvp", self._tensors(split(v, ins)), False))

    def pull(self, u: np.ndarray) -> np.ndarray:
        """`Jᵀ u` for flat host vectors, `(N, m)` to `(N, n)` in float64."""
        outs = self._job("vjp").recipe.shapes.outs
        return self._flat(self._run("vjp", self._tensors(split(u, outs)), False))

    def _tensors(self, arrays: Sequence[np.ndarray]) -> Arrays:
        """Host arrays as what `x` is made of, and where it is."""
        job = self._job("vjp")
        if job.inputs.host:
            return list(arrays)
        return [job.engine.asarray(a, str(self.dtype), job.inputs.leaves[0]) for a in arrays]

    def _flat(self, leaves: Arrays) -> np.ndarray:
        job = self._job("vjp")
        hosts = leaves if job.inputs.host else [job.engine.numpy(a) for a in leaves]
        return join(hosts)

    # some of the samples

    def __getitem__(self, index: Any) -> Any:
        """`J[i]` is sample i as a `scipy.sparse.linalg.LinearOperator` `(m, n)`; `J[a:b]` an operator of fewer samples.

        Raises:
            SelectionError: there is no such sample.
        """
        samples = self.shape[0]
        if samples is None:
            raise OptionError("J[i] needs a known number of samples; there is none inside this transformation")
        if isinstance(index, slice):
            return self._rows(index)
        return self._one(_sample(index, samples))

    def _rows(self, rows: slice) -> JacobianOperator:
        return JacobianOperator(lambda what: take(self._job(what), rows))

    def _one(self, number: int) -> LinearOperator:
        from scipy.sparse.linalg import LinearOperator

        single = self._rows(slice(number, number + 1))
        single._on_host("J[i]")
        _, m, n = self.shape
        return LinearOperator(
            (m, n),
            matvec=lambda v: single.push(np.reshape(v, (1, n)))[0],
            rmatvec=lambda u: single.pull(np.reshape(u, (1, m)))[0],
            dtype=np.float64,
        )

    def _groups(self, size: int) -> Iterator[tuple[slice, JacobianOperator]]:
        """Groups of samples, overlapping at the end so that all are equal and one program serves them."""
        samples = len(self)
        size = max(1, min(size, samples))
        for stop in range(size, samples + size, size):
            start = max(0, min(stop, samples) - size)
            rows = slice(start, start + size)
            yield rows, self if size == samples else self._rows(rows)

    # norms

    def norm(
        self, ord: Any = 2, *, probes: int | None = None, tol: float = 1e-6, steps: int | None = None, seed: int = 0
    ) -> Any:
        """A norm of every sample's Jacobian, `(N,)`.

        `2` is the largest singular value, by Lanczos steps of one product either way (as `svd` has them); `"fro"` is
        `sqrt(Σ J²)`, exact, from the cheaper of the rows and the columns in batches, of which only the sums are kept.
        With `probes=k` it is estimated from k products `uᵀJ` with random orthonormal `u`; the square is unbiased
        with a relative error of about sqrt(2 / k) at worst, and exact when k is the number of outputs.

        Raises:
            OptionError: another norm, or inside a transformation of the framework.

        Example:
            >>> import numpy as np, wrt
            >>> wrt.linearize(lambda x: 3 * x, np.ones((2, 4))).norm("fro").round(6)
            array([6., 6.])

        Source: Golub, Kahan 1965; Hutchinson 1990; Hoffman, Roberts, Yaida 2019 (probes).
        """
        self._on_host("norm")
        if ord == 2 and probes is None:
            return self._back(self._spectrum(1, tol, steps, seed)[1][:, 0] if min(self.shape) else self._nothing())
        if ord != "fro":
            what = f"ord={ord!r} with probes=" if ord == 2 else f"ord={ord!r}"
            raise OptionError(f'norm: {what} is not a choice; expected 2, or "fro" with or without probes=')
        if not min(self.shape):
            return self._back(self._nothing())
        _check_count("probes", probes)
        square = self._exact_square() if probes is None else probe_square(self.pull, *self.shape[:2], probes, seed)
        return self._back(np.sqrt(square))

    def _nothing(self) -> np.ndarray:
        return np.zeros(len(self))

    def _exact_square(self) -> np.ndarray:
        """Sums of squares, batch by batch; seed by seed where not even one sample's matrix may be kept."""
        job = self._job("rows")
        total = self._nothing()
        if job.recipe.plan.bytes > job.recipe.plan.max_memory and job.recipe.plan.batch == 1:
            return self._swept_square(job.recipe.plan.mode)
        with progress_bar(len(self), job.options.progress, "norm") as advance:
            for rows, part in self._groups(job.recipe.plan.batch):
                total[rows] = part._block_square()
                advance(rows.stop - rows.start)
        return total

    def _block_square(self) -> np.ndarray:
        job = self._job("rows")
        blocks = run(dataclasses.replace(job, options=dataclasses.replace(job.options, progress=False))).blocks
        hosts = blocks if job.inputs.host else [job.engine.numpy(b) for b in blocks]
        return np.sum([np.square(b, dtype=np.float64).reshape(len(b), -1).sum(1) for b in hosts], axis=0)

    def _swept_square(self, mode: str) -> np.ndarray:
        samples, m, n = self.shape
        size, product = (m, self.pull) if mode == "reverse" else (n, self.push)
        total, seed = self._nothing(), np.zeros((len(self), size))
        with progress_bar(size, self._job("rows").options.progress, "norm") as advance:
            for number in range(size):
                seed[:, number] = 1.0
                total += np.square(product(seed)).sum(axis=1)
                seed[:, number] = 0.0
                advance(1)
        return total

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
        self._on_host("svd")
        _, m, n = self.shape
        if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= operator.index(k) <= min(m, n):
            raise OptionError(f"svd: k={k!r}; expected an integer from 1 to min(m, n) = {min(m, n)}")
        u, s, vh = self._spectrum(operator.index(k), tol, steps, seed)
        return self._back(u), self._back(s), self._back(vh)

    def _spectrum(self, k: int, tol: float, steps: int | None, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _check_count("steps", steps)
        samples, m, n = self.shape
        found = np.zeros((samples, m, k)), np.zeros((samples, k)), np.zeros((samples, k, n))
        tol = max(tol, PRECISION * float(np.finfo(self.dtype).eps))
        plan = self._job("jvp").recipe.plan
        room = plan.max_memory // (16 * (m + n) * min(m, n, steps or STEPS, TYPICAL_STEPS + 2 * k))
        with progress_bar(len(self), self._job("vjp").options.progress, "svd") as advance:
            for rows, part in self._groups(room):
                shape = (len(part), m, n)
                best = triplets(part.push, part.pull, shape, k, tol, steps or STEPS, seed)
                for whole, piece in zip(found, (best.u, best.s, best.vh), strict=True):
                    whole[rows] = piece
                advance(rows.stop - rows.start)
        return found

    def _back(self, value: np.ndarray) -> Any:
        """A host result as what `x` is made of."""
        return self._tensors([value.astype(self.dtype)])[0]

    def _on_host(self, what: str) -> None:
        """Refuse what needs values where there are none, or where a graph would be lost."""
        job = self._job("vjp")
        if any(map(job.engine.is_traced, job.inputs.leaves)) and not job.inputs.host:
            raise OptionError(
                f"{what} needs the values of x, which a transformation (jit, grad, vmap, tf.function) hides; call it "
                "outside, or use J.matvec, J.rmatvec or J.dense() here"
            )
        if job.graph:
            raise OptionError(
                f"{what} is computed on the host and would lose the graph of x; pass x without one (x.detach(), "
                "differentiable=False), or build it from J.matvec, J.rmatvec or J.dense()"
            )


def take(job: Job, rows: slice) -> Job:
    """The same job for some of its samples."""
    leaves = tuple(leaf[rows] for leaf in job.inputs.leaves)
    labels = None if job.labels is None else job.labels[rows]
    extra = tuple(e[rows] for e in job.extra)
    return dataclasses.replace(job, inputs=dataclasses.replace(job.inputs, leaves=leaves), labels=labels, extra=extra)


def split(flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """`(N, n)` as arrays `(N, *shape)`, in order."""
    stops = np.cumsum([math.prod(s) for s in shapes])[:-1]
    return [p.reshape(len(flat), *s) for p, s in zip(np.split(flat, stops, axis=1), shapes, strict=True)]


def join(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays `(N, *shape)` as one `(N, n)` in float64."""
    return np.concatenate([np.reshape(a, (len(a), math.prod(a.shape[1:]))) for a in leaves], axis=1).astype(np.float64)


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
