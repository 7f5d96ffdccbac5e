"""The quick derivative of max pooling on JAX against JAX's own."""

import os

import numpy as np
import pytest

if os.environ["WRT_TEST_ENGINE"] == "jax":
    import jax
    import jax.numpy as jnp

    from wrt.engines.jax_pooling import fast_pooling

    POOLS = [
        ((1, 2, 2, 1), (1, 2, 2, 1), "VALID", (1, 1, 1, 1)),
        ((1, 3, 2, 1), (1, 2, 1, 1), "SAME", (1, 1, 1, 1)),
        ((1, 2, 2, 1), (1, 1, 1, 1), "SAME", (1, 1, 1, 1)),
        ((1, 3, 3, 1), (1, 3, 2, 1), "VALID", (1, 1, 1, 1)),
    ]

    def pool(x, window, strides, padding, dilation):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding, window_dilation=dilation)

    @pytest.mark.parametrize("case", POOLS)
    @pytest.mark.parametrize("ties", [False, True])
    def test_derivatives_equal_those_of_jax(case, ties):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(2, 7, 6, 3))
        x = jnp.asarray(np.round(x) if ties else x)
        f = lambda a: [jnp.sin(jax.jit(pool, static_argnums=(1, 2, 3, 4))(a[0], *case))]
        y, back = jax.vjp(f, [x])
        fast_y, fast_back = jax.vjp(fast_pooling(f), [x])
        u = jnp.asarray(rng.normal(size=y[0].shape))
        np.testing.assert_array_equal(y[0], fast_y[0])
        np.testing.assert_allclose(back([u])[0][0], fast_back([u])[0][0], atol=1e-14)
        if not ties:  # JAX's own push breaks ties otherwise than its pull
            v = [jnp.asarray(rng.normal(size=x.shape))]
            np.testing.assert_allclose(
                jax.jvp(f, ([x],), (v,))[1][0], jax.jvp(fast_pooling(f), ([x],), (v,))[1][0], atol=1e-14
            )

    def test_dilated_windows_have_a_derivative_here_and_none_in_jax():
        case = ((1, 2, 2, 1), (1, 1, 1, 1), "SAME", (1, 2, 1, 1))
        f = lambda a: [jnp.sum(jnp.sin(pool(a[0], *case)))]
        x, v, h = *(np.random.default_rng(1).normal(size=(2, 1, 7, 6, 3))), 1e-6
        (gradient,) = jax.vjp(fast_pooling(f), [x])[1]([jnp.ones(())])[0]
        slope = (f([x + h * v])[0] - f([x - h * v])[0]) / (2 * h)
        np.testing.assert_allclose(np.sum(gradient * v), slope, rtol=1e-7)

    def test_the_pooling_is_really_replaced():
        f = lambda a: [pool(a[0], *POOLS[0])]
        x = [jnp.ones((1, 4, 4, 1))]
        program = lambda g: str(jax.make_jaxpr(lambda a: jax.vjp(g, a)[1]([jnp.ones((1, 2, 2, 1))]))(x))
        assert "select_and_scatter" in program(f)
        assert "select_and_scatter" not in program(fast_pooling(f))

    def test_functions_without_pooling_are_left_alone():
        calls = []
        f = lambda a: [calls.append(1) or a[0] * 2]
        assert float(fast_pooling(f)([jnp.ones(())])[0]) == 2.0
        assert len(calls) == 2
