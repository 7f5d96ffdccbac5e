"""Every mistake has its message: what was found, what was expected, the way out."""

import dataclasses
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import close, function_net, keras_net, math, points, tensor, torch_net

import wrt
from wrt.errors import (
    DependenceError,
    DtypeError,
    InputError,
    ModelError,
    NonFiniteWarning,
    OptionError,
    PlanMismatchError,
    SelectionError,
    WrtError,
)

X = points(5)


def image_net():
    inputs = keras.Input((6, 5, 2))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))


def word_net():
    inputs = keras.Input((4,), dtype="int32", name="words")
    y = keras.layers.Embedding(7, 3, name="lookup")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(y)))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (3, "int 3"),
        (None, "NoneType"),
        ([1], "list"),
        ("net.keras", "wrt.load_model"),
        (torch.nn.ReLU, "call it first"),
    ],
)
def test_not_a_model(model, words):
    with pytest.raises(ModelError, match=words):
        wrt.jacobian(model, X)


def test_every_error_is_one_of_ours_and_a_builtin():
    for kind in (ModelError, DtypeError):
        assert issubclass(kind, (WrtError, TypeError))
    for kind in (InputError, SelectionError, OptionError):
        assert issubclass(kind, ValueError)


def test_wrong_rank():
    with pytest.raises(InputError, match=r"has shape \(6, 5, 2\); expected \(N, 6, 5, 2\).*x\[None\]"):
        wrt.jacobian(image_net(), np.zeros((6, 5, 2), "float32"))
    with pytest.raises(InputError, match=r"has shape \(3,\); expected \(N, 3\)"):
        wrt.jacobian(keras_net(), np.zeros(3))


def test_a_number_is_no_batch():
    with pytest.raises(InputError, match="single number"):
        wrt.jacobian(keras_net(), 3.0)


def test_nested_lists_are_no_array():
    with pytest.raises(InputError, match=r"nested lists of 6 Python numbers.*np.asarray"):
        wrt.jacobian(keras_net(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_wrong_channel_count():
    with pytest.raises(InputError, match=r"has shape \(4, 6, 5, 3\); expected \(N, 6, 5, 2\)"):
        wrt.jacobian(image_net(), np.zeros((4, 6, 5, 3), "float32"))


def test_channels_first():
    with pytest.raises(InputError, match="moveaxis"):
        wrt.jacobian(image_net(), np.zeros((4, 2, 6, 5), "float32"))


def test_wrong_width_of_a_function():
    with pytest.raises(InputError, match=r"cannot be evaluated on x of shape \(N, 4\)"):
        wrt.jacobian(function_net(), tensor(np.zeros((2, 4))))


def test_wrong_width_of_a_torch_module():
    with pytest.raises(InputError, match="cannot be evaluated on x of shape"):
        wrt.jacobian(torch_net(), np.zeros((2, 4)))


def test_nan_and_infinity_are_counted():
    x = X.copy()
    x[1, 0], x[3, 1], x[3, 2] = np.nan, np.inf, -np.inf
    with pytest.warns(NonFiniteWarning, match="1 NaN and 2 infinite values in 2 of 5 samples"):
        wrt.jacobian(keras_net(), x)


def test_finite_input_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrt.jacobian(keras_net(), X)


def test_empty_batch():
    empty = X[:0]
    assert wrt.jacobian(keras_net(), empty).shape == (0, 4, 3)
    assert wrt.jacobian(keras_net(), empty, mode="forward").shape == (0, 4, 3)
    assert wrt.gradient(keras_net(), empty, of=1).shape == (0, 3)
    assert wrt.gradient(keras_net(), empty, of="max").shape == (0, 3)
    assert wrt.gradient(keras_net(), empty, of=np.zeros((0, 2), int)).shape == (0, 2, 3)
    assert wrt.jvp(keras_net(), empty, empty).shape == (0, 4)
    assert wrt.vjp(keras_net(), empty, np.zeros((0, 4))).shape == (0, 3)
    assert wrt.jacobian(keras_net(), empty, sparse=True) == []
    assert wrt.jacobian(function_net(), tensor(empty)).shape == (0, 4, 3)


def test_integers_name_the_embedding():
    with pytest.raises(DtypeError, match=r"int32.*wrt='lookup', the embedding layer"):
        wrt.gradient(word_net(), np.ones((2, 4), "int32"), of=0)
    assert wrt.gradient(word_net(), np.ones((2, 4), "int32"), of=0, wrt="lookup").shape == (2, 4, 3)


def test_integers_into_a_torch_module():
    model = torch.nn.Sequential(torch.nn.Embedding(7, 3), torch.nn.Flatten(), torch.nn.Linear(12, 2))
    with pytest.raises(DtypeError, match="wrt='0', the embedding layer"):
        wrt.gradient(model, np.ones((2, 4), "int64"), of=0)
    assert wrt.gradient(model, np.ones((2, 4), "int64"), of=0, wrt="0").shape == (2, 4, 3)


def test_integers_into_a_float_model_are_converted():
    close(wrt.jacobian(keras_net(), np.ones((2, 3), int)), wrt.jacobian(keras_net(), np.ones((2, 3))), 1e-12)


def test_integers_into_a_function():
    with pytest.raises(DtypeError, match="astype"):
        wrt.jacobian(function_net(), tensor(np.ones((2, 3), "int32")))


@pytest.mark.parametrize("unit", [4, -5, 10**6])
def test_unit_out_of_range(unit):
    with pytest.raises(SelectionError, match=rf"{unit} is out of range: the output has 4 units, 0 to 3"):
        wrt.gradient(keras_net(), X, of=unit)
    with pytest.raises(SelectionError, match="out of range"):
        wrt.jacobian(function_net(), tensor(X), of=(unit,))


def test_label_out_of_range():
    with pytest.raises(SelectionError, match="label 7 is out of range"):
        wrt.gradient(keras_net(), X, of=np.array([0, 1, 7, 3, 0]))


@pytest.mark.parametrize("shape", [(4,), (6, 2), (1,)])
def test_labels_of_wrong_length(shape):
    with pytest.raises(SelectionError, match=r"x holds 5 samples; expected \(5,\) or \(5, K\)"):
        wrt.gradient(keras_net(), X, of=np.zeros(shape, int))


def test_labels_of_wrong_rank():
    with pytest.raises(SelectionError, match=r"labels are \(N,\) or \(N, K\)"):
        wrt.gradient(keras_net(), X, of=np.zeros((5, 1, 1), int))


@pytest.mark.parametrize("labels", [np.eye(4)[[0, 1, 2, 3, 0]], np.zeros(5), np.zeros((5, 4), bool)])
def test_float_and_one_hot_labels(labels):
    with pytest.raises(SelectionError, match=r"expected integers.*argmax"):
        wrt.gradient(keras_net(), X, of=labels)


def test_a_float_unit():
    with pytest.raises(SelectionError, match="expected integers"):
        wrt.gradient(keras_net(), X, of=1.0)


def test_a_truth_value_is_no_unit():
    with pytest.raises(SelectionError):
        wrt.gradient(keras_net(), X, of=True)


def test_top_of_more_than_there_are():
    with pytest.raises(SelectionError, match="only 4 units"):
        wrt.gradient(keras_net(), X, of=wrt.top(5))
    with pytest.raises(SelectionError, match="at least 1"):
        wrt.gradient(keras_net(), X, of=wrt.top(0))


def test_none_on_ten_classes_lists_the_ways():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(10)])
    with pytest.raises(SelectionError, match=r"\(N, 10\).*of=3.*of=labels.*wrt\.top.*wrt\.logit.*wrt\.layer.*lambda"):
        wrt.gradient(model, X)


def test_gradient_of_more_than_a_list():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8), keras.layers.Reshape((2, 2, 2))])
    with pytest.raises(SelectionError, match=r"leaves \(2, 2\) values per sample"):
        wrt.gradient(model, X, of=1)


@pytest.mark.parametrize("of", ["maximum", "ALL", "best"])
def test_unknown_word(of):
    with pytest.raises(SelectionError, match="is not a choice"):
        wrt.gradient(keras_net(), X, of=of)


def test_unknown_layer_suggests_near_names():
    with pytest.raises(SelectionError, match="Did you mean 'hidden'"):
        wrt.gradient(keras_net(), X, of=0, wrt="hiden")
    with pytest.raises(SelectionError, match=r"unknown layer 'hiden'.*'hidden'"):
        wrt.gradient(keras_net(), X, of=0, wrt=wrt.layer("hiden"))
    with pytest.raises(SelectionError, match=r"unknown layer 'hidde'.*'hidden'"):
        wrt.gradient(keras_net(), X, of=wrt.layer("hidde", 0))


def test_unknown_layer_of_a_torch_module():
    with pytest.raises(SelectionError, match="unknown layer '5'"):
        wrt.gradient(torch_net(), X, of=0, wrt=wrt.layer("5"))


def test_a_function_has_no_layers():
    with pytest.raises(WrtError, match="no named layers"):
        wrt.gradient(function_net(), tensor(X), of=0, wrt=wrt.layer("hidden"))


def test_layer_used_twice():
    shared = keras.layers.Dense(3, name="shared")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, shared(keras.activations.tanh(shared(inputs))))
    with pytest.raises(SelectionError, match=r"'shared' is called 2 times.*call=0"):
        wrt.gradient(model, X, of=0, wrt=wrt.layer("shared"))
    with pytest.raises(SelectionError, match="no call number 2"):
        wrt.gradient(model, X, of=0, wrt=wrt.layer("shared", call=2))
    last = wrt.gradient(model, X, of=0, wrt=wrt.layer("shared", call=1))
    close(last, np.tile([1.0, 0, 0], (5, 1)), 1e-6)


def test_a_unit_in_wrt():
    with pytest.raises(SelectionError, match="unit belongs to of="):
        wrt.gradient(keras_net(), X, of=0, wrt=wrt.layer("hidden", 1))


def test_output_that_does_not_depend_on_the_layer():
    with pytest.raises(DependenceError, match="does not depend on layer 'last'"):
        wrt.gradient(keras_net(), X, of=wrt.layer("hidden", 0), wrt=wrt.layer("last"))


def test_output_that_does_not_depend_on_the_input():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    model = keras.Model([a, b], [keras.layers.Dense(2)(a), keras.layers.Dense(3)(b)])
    x = [X.astype("float32"), np.ones((5, 2), "float32")]
    with pytest.raises(DependenceError, match="does not depend on input"):
        wrt.gradient(model, x, of=wrt.output(0, 1), wrt=1)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_detached_functions(mode):
    stop = {"jax": lambda: math_stop(), "torch": lambda: torch.detach, "tensorflow": lambda: math().stop_gradient}[
        ENGINE
    ]()
    with pytest.raises(DependenceError, match="does not depend on input"):
        wrt.jacobian(lambda x: stop(x) * 2.0, tensor(X), mode=mode)


def math_stop():
    import jax

    return jax.lax.stop_gradient


def test_constant_functions():
    constant = tensor(np.ones((5, 2)))
    with pytest.raises(WrtError, match=r"does not depend|axis 0 must be samples"):
        wrt.jacobian(lambda x: constant, tensor(X))
    with pytest.raises(DependenceError, match="does not depend"):
        wrt.jacobian(lambda x: np.ones((len(x), 2)), X)


def test_a_piecewise_constant_numpy_function_is_not_called_independent():
    close(wrt.jacobian(lambda x: np.floor(x) + x, X), np.tile(np.eye(3), (5, 1, 1)), 1e-9)


@pytest.mark.parametrize("x", ["text", np.array(["a", "b"]), ["a", "b"], np.array([None, 1], object), {"x": "text"}])
def test_strings_and_objects(x):
    with pytest.raises((DtypeError, InputError), match=r"expected numbers|holds"):
        wrt.jacobian(keras_net(), x)


def test_ragged_lists():
    with pytest.raises(InputError):
        wrt.jacobian(keras_net(), [[1.0, 2.0, 3.0], [1.0]])


def test_complex_numbers():
    with pytest.raises(DtypeError, match="complex"):
        wrt.jacobian(keras_net(), X + 1j)


def test_nothing_at_all():
    for nothing in (None, {}, [], ()):
        with pytest.raises(WrtError, match=r"holds no array|empty"):
            wrt.jacobian(keras_net(), nothing)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "backward"}, "mode='backward' is not a choice"),
        ({"mode": "revers"}, "Did you mean 'reverse'"),
        ({"mode": "mixed"}, "later release"),
        ({"mode": None}, "mode=None"),
        ({"chunk": 0}, "chunk=0"),
        ({"chunk": 1.5}, "chunk=1.5"),
        ({"chunk": True}, "chunk=True"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"batch_size": "all"}, "batch_size='all'"),
        ({"max_memory": 0}, "max_memory=0"),
        ({"compile": "yes"}, "compile='yes'"),
    ],
)
def test_nonsense_options(options, words):
    with pytest.raises(OptionError, match=words):
        wrt.jacobian(keras_net(), X, **options)


def test_misspelt_option():
    with pytest.raises(TypeError, match="batchsize"):
        wrt.jacobian(keras_net(), X, batchsize=2)


def test_kinds_are_not_mixed():
    f = function_net()
    with pytest.raises(InputError, match="x mixes"):
        wrt.jacobian(lambda a, b: f(a) + f(b), (tensor(X), X))
    with pytest.raises(InputError, match="different numbers of samples"):
        wrt.jacobian(lambda a, b: f(a) + f(b), (X, X[:2]))


def test_a_tensor_of_another_framework():
    model, x = (torch_net(), tensor(X)) if ENGINE != "torch" else (torch_net(), None)
    if x is None:
        import jax

        x = jax.numpy.asarray(X)
    with pytest.raises(InputError, match="tensor but the model runs on torch"):
        wrt.jacobian(model, x)


@pytest.mark.parametrize("shape", [(5, 3), (4, 4), (5,), (5, 4, 1)])
def test_cotangent_of_wrong_shape(shape):
    with pytest.raises(InputError, match=r"u has shape .*; expected \(5, 4\)"):
        wrt.vjp(keras_net(), X, np.zeros(shape))


def test_tangent_of_wrong_shape_count_and_kind():
    with pytest.raises(InputError, match=r"v has shape \(5, 4\); expected \(5, 3\)"):
        wrt.jvp(keras_net(), X, np.zeros((5, 4)))
    with pytest.raises(InputError, match=r"v holds 2 array\(s\); expected 1"):
        wrt.jvp(keras_net(), X, (X, X))
    with pytest.raises(InputError, match="v has dtype"):
        wrt.jvp(keras_net(), X, np.full((5, 3), "a"))


def test_function_of_one_sample():
    total = {"jax": lambda x: x.sum(), "torch": lambda x: x.sum(), "tensorflow": lambda x: math().reduce_sum(x)}[ENGINE]
    with pytest.raises(InputError, match=r"axis 0 must be samples.*jax\.vmap"):
        wrt.jacobian(total, tensor(X))
    with pytest.raises(InputError, match="axis 0 must be samples"):
        wrt.jacobian(lambda x: x[0] * 2.0, tensor(X))


def test_dictionary_with_a_wrong_key():
    a, b = keras.Input((3,), name="age"), keras.Input((2,), name="job")
    model = keras.Model({"age": a, "job": b}, keras.layers.Dense(2)(keras.layers.Concatenate()([a, b])))
    x = {"age": X, "jbo": np.ones((5, 2))}
    with pytest.raises(InputError, match=r"unknown key 'jbo'.*'job'"):
        wrt.jacobian(model, x)
    with pytest.raises(InputError, match=r"holds 1 array\(s\); the model has 2 input\(s\): 'age', 'job'"):
        wrt.jacobian(model, {"age": X})


def test_unknown_input_and_output():
    with pytest.raises(SelectionError, match="there are 1 inputs"):
        wrt.gradient(keras_net(), X, of=0, wrt=1)
    with pytest.raises(SelectionError, match="expected an input's index"):
        wrt.gradient(keras_net(), X, of=0, wrt=1.5)
    with pytest.raises(SelectionError, match="chooses nothing"):
        wrt.gradient(keras_net(), X, of=0, wrt=[])
    with pytest.raises(SelectionError, match="unknown output 'price'"):
        wrt.gradient(keras_net(), X, of=wrt.output("price", 0))


def test_selectors_do_not_nest():
    with pytest.raises(SelectionError, match="nests"):
        wrt.gradient(keras_net(), X, of=wrt.logit(wrt.output("a", 0)))


def test_function_as_choice_must_return_rows():
    with pytest.raises(SelectionError, match=r"expected \(N,\) or \(N, K\)"):
        wrt.gradient(keras_net(), X, of=lambda y: y[:, None, :])
    with pytest.raises(SelectionError, match=r"expected \(N,\) or \(N, K\)"):
        wrt.gradient(keras_net(), X, of=lambda y: "text")


@dataclasses.dataclass
class Answer:
    p: object
    q: object


def test_models_that_return_dicts_tuples_and_dataclasses():
    f = function_net()
    kinds = {
        "dict": lambda x: {"p": f(x), "q": x[:, 0] * 2.0},
        "tuple": lambda x: (f(x), x[:, 0] * 2.0),
        "list": lambda x: [f(x), x[:, 0] * 2.0],
        "dataclass": lambda x: Answer(f(x), x[:, 0] * 2.0),
    }
    single = wrt.jacobian(f, tensor(X))
    for name, g in kinds.items():
        found = wrt.jacobian(g, tensor(X))
        first, second = (found["p"], found["q"]) if isinstance(found, dict) else found
        close(first, single, 1e-12)
        close(second, np.tile([2.0, 0, 0], (5, 1)), 1e-12)
        choice = 0 if name in ("tuple", "list") else "p"
        close(wrt.gradient(g, tensor(X), of=wrt.output(choice, 1)), single[:, 1], 1e-12)
        with pytest.raises(SelectionError, match=r"has 2 outputs; choose .*wrt\.output"):
            wrt.gradient(g, tensor(X), of=1)


def test_model_that_returns_no_array():
    with pytest.raises(WrtError):
        wrt.jacobian(lambda x: None, tensor(X))
    with pytest.raises(WrtError):
        wrt.jacobian(lambda x: "text", tensor(X))


def test_plan_called_with_another_shape():
    plan = wrt.plan_jacobian(function_net(), tensor(X))
    with pytest.raises((PlanMismatchError, InputError)):
        plan(tensor(np.zeros((2, 4))))


def test_sparse_needs_numpy():
    with pytest.raises(OptionError, match="pass x as NumPy"):
        wrt.jacobian(function_net(), tensor(X), sparse=True)


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {name!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
from wrt.engines import registry
from wrt.errors import EngineNotInstalledError
try:
    registry.engine({name!r})
except EngineNotInstalledError as error:
    assert isinstance(error, ImportError)
    print(error)
"""


@pytest.mark.parametrize("name", ["jax", "torch", "tensorflow"])
def test_engine_that_is_not_installed(name):
    ran = subprocess.run([sys.executable, "-c", BLOCKED.format(name=name)], capture_output=True, text=True, check=True)
    assert f"pip install 'wrt[{name}]'" in ran.stdout


def test_unknown_engine():
    from wrt.engines import registry

    with pytest.raises(OptionError, match="Did you mean 'torch'"):
        registry.engine("troch")
