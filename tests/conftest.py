"""One engine per process: WRT_TEST_ENGINE names it."""

import os
from pathlib import Path

ENGINE = os.environ.get("WRT_TEST_ENGINE", "")
ENGINES = ("jax", "torch", "tensorflow")
if ENGINE not in ENGINES:
    raise RuntimeError(f"WRT_TEST_ENGINE={ENGINE!r}; set it to one of {', '.join(ENGINES)}")

os.environ["KERAS_BACKEND"] = ENGINE
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if ENGINE != "torch":  # every program once more: a third of the time, where it is not the subject
    os.environ.setdefault("WRT_VERIFICATION", "off")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# XLA takes most of the time: plain programs, each compiled once, also for the processes that tests start
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import torch  # noqa: F401, E402  (before tensorflow: a crash otherwise)

if ENGINE == "jax":
    import jax

    jax.config.update("jax_enable_x64", True)

collect_ignore = [] if ENGINE == "tensorflow" else ["test_tensorflow_operators.py"]
if ENGINE != "torch":
    # long, the same on every engine; or about torch alone
    collect_ignore += ["test_export_operators.py", "test_example_mnist.py", "test_captum.py"]
    collect_ignore += ["test_lost.py", "test_torch_state.py"]
    collect_ignore += ["test_plots.py", "test_plots_history.py", "test_plots_tables.py", "test_cli_explain.py"]
    collect_ignore += ["test_plots_relevance.py", "test_relevance_tables.py", "test_cli_relevance.py"]

import keras  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def engine():
    """The engine under test."""
    from wrt.engines import registry

    return registry.engine(ENGINE)


@pytest.fixture
def compilations(engine, monkeypatch):
    """The programs that the engine has been given to compile since."""
    made, compile_ = [], engine.compile
    monkeypatch.setattr(engine, "compile", lambda f: made.append(f) or compile_(f))
    return made


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(7)
