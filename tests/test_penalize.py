"""Keras models that are trained with a penalty: against the plain model and the penalty itself."""

import doctest

import keras
import numpy as np
import pytest
from conftest import ENGINE
from sklearn.datasets import load_digits
from subjects import array, close, tensor

import wrt
from wrt.engines import registry
from wrt.errors import ModelError, OptionError
from wrt.models.penalize import PenalizedModel, Schedule
from wrt.models.penalties import Cosine, InputGradient, JacobianNorm, RightReasons, SmallestK, TotalVariation

COMPILES = registry.engine(ENGINE).capabilities.compiles
SLOPE = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
X = np.random.default_rng(1).normal(size=(32, 6)).astype("float32")
Y = X.dot(SLOPE).argmax(1)


def mlp(end=None, seed=5, **first):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="tanh", **first), layers.Dense(3, activation=end)]
    )


def compiled(model, loss="sparse_categorical_crossentropy", **options):
    options = {"optimizer": keras.optimizers.SGD(0.1), "metrics": ["accuracy"], **options}
    model.compile(loss=loss, **options)
    return model


def evaluated(model, y=Y, **options):
    return model.evaluate(X, y, batch_size=32, verbose=0, return_dict=True, **options)


def penalty_of(penalty, model, y=Y):
    return float(array(penalty(model, X, y)))


PENALTIES = {
    "loss": InputGradient(),
    "loss, p=1": InputGradient(p=1),
    "own loss": InputGradient(loss=lambda p, y: p[:, 0] * p[:, 1]),
    "label": InputGradient(of="label"),
    "logit": InputGradient(of=wrt.logit("label")),
    "exact": JacobianNorm(exact=True),
    "smallest": SmallestK(2),
    "variation": TotalVariation(),
    "cosine": Cosine(np.arange(6.0)),
    "right reasons": RightReasons(np.arange(6) > 2),
    "function": lambda model, x, y: InputGradient(of="label")(model, x, y) * 2,
}


@pytest.mark.parametrize("name", PENALTIES)
def test_the_loss_is_the_compiled_one_and_the_weighted_penalty(name):
    penalty = PENALTIES[name]
    model = mlp("softmax")
    plain = evaluated(compiled(model))
    found = evaluated(compiled(wrt.penalize(model, penalty, weight=0.5)))
    wanted = penalty_of(penalty, model)
    assert wanted > 1e-3
    assert found["penalty"] == pytest.approx(wanted, rel=1e-4)
    assert found["loss"] == pytest.approx(plain["loss"] + 0.5 * wanted, rel=1e-5)
    assert found["accuracy"] == plain["accuracy"]


@pytest.mark.parametrize("name", ["loss", "label", "smallest", "exact"])
def test_a_step_follows_the_slope_of_both(name):
    """One step of gradient descent, against central differences of loss + 2 penalty in one direction."""
    model = mlp("softmax")
    before = model.get_weights()
    penalised = compiled(wrt.penalize(model, PENALTIES[name], weight=2.0), optimizer=keras.optimizers.SGD(1e-3))
    penalised.fit(X, Y, batch_size=32, epochs=1, verbose=0)
    steps = [(a - b) / -1e-3 for a, b in zip(model.get_weights(), before, strict=True)]
    rng = np.random.default_rng(0)
    direction = [rng.normal(size=w.shape) for w in before]
    losses = []
    for sign in (1, -1):
        model.set_weights([w + sign * 3e-4 * d for w, d in zip(before, direction, strict=True)])
        losses.append(evaluated(penalised)["loss"])
    wanted = (losses[0] - losses[1]) / 6e-4
    found = sum((s * d).sum() for s, d in zip(steps, direction, strict=True))
    assert found == pytest.approx(wanted, rel=2e-2)


def test_predictions_and_weights_are_those_of_the_model():
    model = mlp()
    penalised = compiled(wrt.penalize(model, InputGradient()), "mse", metrics=None)
    close(penalised.predict(X, verbose=0), model.predict(X, verbose=0), 1e-7)
    penalised.fit(X, X[:, :3], epochs=1, verbose=0)
    close(penalised.predict(X, verbose=0), model.predict(X, verbose=0), 1e-7)
    assert [id(v) for v in penalised.trainable_variables] == [id(v) for v in model.trainable_variables]
    assert penalised.count_params() - model.count_params() == len(penalised.settings)


def digits():
    data = load_digits()
    return (data.images[..., None] / 16).astype("float32"), data.target


def cnn():
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.mark.parametrize(
    ("penalty", "weight"),
    [(InputGradient(), 0.3), (JacobianNorm(), 1.0), (SmallestK(32), 0.01)],
    ids=["double backpropagation", "projections", "sparsity"],
)
def test_the_penalty_falls_and_the_accuracy_hardly(penalty, weight):
    """Beside the same training without the penalty, which is measured but has no weight."""
    x, y = digits()
    found = {}
    for factor in (0.0, weight):
        model = compiled(wrt.penalize(cnn(), penalty, factor), optimizer=keras.optimizers.Adam(0.02))
        history = model.fit(
            x[:512],
            y[:512],
            batch_size=64,
            epochs=6,
            verbose=0,
            validation_data=(x[512:768], y[512:768]),
            validation_batch_size=256,
        ).history
        assert set(history) == {k for m in ("loss", "accuracy", "penalty") for k in (m, f"val_{m}")}
        found[factor] = history["val_penalty"][-1], history["val_accuracy"][-1]
    assert found[weight][0] < 0.5 * found[0.0][0]
    assert found[weight][1] > found[0.0][1] - 0.08


@pytest.fixture
def runs(monkeypatch):
    """How often Python computes the penalty: at every trace, or at every step where nothing is compiled."""
    calls = []
    before = PenalizedModel._value
    monkeypatch.setattr(PenalizedModel, "_value", lambda self, *args: calls.append(1) or before(self, *args))
    return calls


class Probe(keras.callbacks.Callback):
    """Notes something at the end of every epoch."""

    def __init__(self, look):
        super().__init__()
        self.look, self.found = look, []

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(self.look(self.model))


class TestNumbers:
    def test_schedule(self, runs):
        """Training at a learning rate of zero, so that each epoch reports the penalty of its own k and weight."""
        model = mlp("softmax")
        penalised = compiled(wrt.penalize(model, SmallestK(1)), optimizer=keras.optimizers.SGD(0.0))
        schedule = wrt.penalties.Schedule(k=lambda epoch: 1 + epoch, weight=[1.0, 0.5], max_weight=[1000.0, 10.0, 1.0])
        probe = Probe(lambda model: (dict(model.settings), len(runs)))
        history = penalised.fit(X, Y, batch_size=32, epochs=4, verbose=0, callbacks=[schedule, probe]).history
        plain = evaluated(compiled(model))["loss"]
        numbers = [(1, 1.0, 1000.0), (2, 0.5, 10.0), (3, 0.5, 1.0), (4, 0.5, 1.0)]
        for epoch, (k, weight, largest) in enumerate(numbers):
            wanted = penalty_of(SmallestK(k, max_weight=largest), model)
            assert history["penalty"][epoch] == pytest.approx(wanted, rel=1e-4)
            assert history["loss"][epoch] == pytest.approx(plain + weight * wanted, rel=1e-4)
            assert probe.found[epoch][0] == {"weight": weight, "k": k, "sum_weight": 100.0, "max_weight": largest}
        counts = [count for _, count in probe.found]
        assert counts[-1] - counts[0] == (0 if COMPILES else 3)

    def test_set_in_the_middle_of_an_epoch(self):
        model = mlp("softmax")
        penalised = compiled(wrt.penalize(model, SmallestK(3), 0.0), optimizer=keras.optimizers.SGD(0.0))

        class Switch(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch == 1:
                    self.model.weight = 4.0
                    self.model.settings["k"] = 1

        history = penalised.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0, callbacks=[Switch()]).history
        values = [
            float(array(SmallestK(k)(model, X[i : i + 8], Y[i : i + 8]))) for i, k in ((0, 3), (8, 3), (16, 1), (24, 1))
        ]
        plain = evaluated(compiled(model))["loss"]
        assert history["penalty"][0] == pytest.approx(np.mean(values), rel=1e-4)
        assert history["loss"][0] == pytest.approx(plain + 4 * sum(values[2:]) / 4, rel=1e-4)
        assert (penalised.weight, penalised.settings["k"]) == (4.0, 1)

    def test_reading(self):
        penalised = wrt.penalize(mlp(), SmallestK(2), 0.1)
        assert dict(penalised.settings) == {"weight": 0.1, "k": 2, "sum_weight": 100.0, "max_weight": 1000.0}
        assert repr(penalised.settings).startswith("Settings({'weight': 0.1, 'k': 2")
        assert ("k" in penalised.settings, penalised.settings.get("k"), penalised.settings.get("p")) == (True, 2, None)
        penalised.settings.update(k=3, weight=2)
        assert (penalised.weight, penalised.settings["k"], len(penalised.settings)) == (2.0, 3, 4)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("k", 0, "at least 1"),
            ("k", 7, "more than the 6 entries"),
            ("k", 1.5, "expected an integer"),
            ("weight", -1.0, "zero or more"),
            ("weight", float("nan"), "finite"),
            ("weight", "much", "finite number"),
            ("sum_weight", [1.0, 2.0], "finite number"),
            ("sum_wait", 3, "Did you mean 'sum_weight'"),
        ],
    )
    def test_bad(self, name, value, message):
        penalised = wrt.penalize(mlp(), SmallestK(2))
        with pytest.raises(OptionError, match=message):
            penalised.settings[name] = value
        assert penalised.settings["k"] == 2
        with pytest.raises(OptionError, match=message):
            compiled(penalised).fit(X, Y, epochs=1, verbose=0, callbacks=[Schedule(**{name: [value]})])

    def test_bad_schedule(self):
        with pytest.raises(OptionError, match="one value per epoch"):
            Schedule(k=3)
        with pytest.raises(ModelError, match=r"models of wrt\.penalize; this is a Sequential"):
            compiled(mlp()).fit(X, Y, verbose=0, callbacks=[Schedule(k=[3])])
        with pytest.raises(OptionError, match="cannot be deleted"):
            del wrt.penalize(mlp(), SmallestK(2)).settings["k"]

    def test_docstring(self):
        finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
        assert all(runner.run(test).failed == 0 for test in finder.find(Schedule, "Schedule", globs={}))


class TestRandomProjections:
    def test_every_step_draws_anew(self):
        penalised = compiled(wrt.penalize(mlp(), JacobianNorm()), optimizer=keras.optimizers.SGD(0.0))
        history = penalised.fit(X, Y, batch_size=32, epochs=3, verbose=0).history["penalty"]
        assert len(set(history)) == 3
        assert len({evaluated(penalised)["penalty"] for _ in range(3)}) == 3

    def test_keras_seeds_it(self):
        found = []
        for _ in range(2):
            penalised = compiled(wrt.penalize(mlp(), JacobianNorm(3)))
            found.append(evaluated(penalised)["penalty"])
        assert found[0] == found[1]

    def test_unbiased(self):
        model = mlp()
        penalised = compiled(wrt.penalize(model, JacobianNorm(300)), run_eagerly=True)
        assert evaluated(penalised)["penalty"] == pytest.approx(penalty_of(JacobianNorm(exact=True), model), rel=0.05)


def named_mask(x):
    return x * 0 + 1


class TestFiles:
    @pytest.mark.parametrize(
        "penalty",
        [
            InputGradient(p=1),
            InputGradient(p=np.inf, of=wrt.logit("label")),
            InputGradient(of=1),
            JacobianNorm(2),
            SmallestK(2, max_weight=10.0),
            TotalVariation(axes=(1,)),
            Cosine(np.arange(6.0)),
            RightReasons(np.arange(6) > 2),
        ][:: 1 if ENGINE == "torch" else 3],
        ids=lambda p: type(p).__name__,
    )
    def test_save_and_load(self, penalty, tmp_path):
        model = mlp("softmax")
        penalised = compiled(wrt.penalize(model, penalty, 0.3), optimizer="adam")
        penalised.fit(X, Y, epochs=1, verbose=0)
        penalised.weight = 0.7
        path = tmp_path / "penalised.keras"
        penalised.save(path)
        wanted = evaluated(penalised)
        loaded = keras.saving.load_model(path)
        assert isinstance(loaded, PenalizedModel)
        assert dict(loaded.settings) == dict(penalised.settings)
        assert loaded.weight == 0.7
        assert type(loaded.penalty) is type(penalty)
        found = evaluated(loaded)
        assert found == pytest.approx(wanted, rel=0.5 if isinstance(penalty, JacobianNorm) else 1e-6)
        loaded.fit(X, Y, epochs=1, verbose=0)
        assert not np.allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-7)

    def test_wrt_loads_it(self, tmp_path):
        model = mlp()
        wrt.penalize(model, SmallestK(2)).save(tmp_path / "penalised.keras")
        loaded = wrt.load_model(tmp_path / "penalised.keras")
        close(loaded.predict(X, verbose=0), model.predict(X, verbose=0), 1e-7)

    def test_numbers_that_have_changed_are_saved(self, tmp_path):
        penalised = compiled(wrt.penalize(mlp("softmax"), SmallestK(2), 0.3))
        penalised.settings.update(k=4, sum_weight=7.0, weight=0.2)
        penalised.save(tmp_path / "penalised.keras")
        loaded = keras.saving.load_model(tmp_path / "penalised.keras")
        assert dict(loaded.settings) == {"weight": 0.2, "k": 4, "sum_weight": 7.0, "max_weight": 1000.0}
        assert evaluated(loaded) == pytest.approx(evaluated(penalised), rel=1e-6)

    def test_registered_functions(self, tmp_path):
        mask = keras.saving.register_keras_serializable(package="tests")(named_mask)
        penalised = compiled(wrt.penalize(mlp("softmax"), RightReasons(mask)))
        penalised.save(tmp_path / "penalised.keras")
        loaded = keras.saving.load_model(tmp_path / "penalised.keras")
        assert evaluated(loaded) == pytest.approx(evaluated(penalised), rel=1e-6)


class TestTraining:
    """What Keras models do otherwise they do with a penalty."""

    def same_history(self, first=None, losses=None, **fit):
        """A weight of zero changes nothing."""
        found = []
        for wrap in (lambda m: m, lambda m: wrt.penalize(m, InputGradient(of="label"), 0.0)):
            model = compiled(wrap(mlp("softmax", **(first or {}))), **(losses or {}))
            found.append(model.fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0, **fit).history)
        assert min(found[1].pop("penalty")) > 0
        found[1].pop("val_penalty", None)
        assert found[1] == {k: pytest.approx(v, rel=1e-4) for k, v in found[0].items()}

    def test_sample_weight(self):
        self.same_history(sample_weight=np.linspace(0, 2, 32))

    def test_class_weight(self):
        self.same_history(class_weight={0: 0.1, 1: 1.0, 2: 3.0})

    def test_validation(self):
        self.same_history(validation_data=(X[:7], Y[:7]))

    def test_eager(self):
        self.same_history(losses={"run_eagerly": True})

    def test_regularisers(self):
        self.same_history({"kernel_regularizer": "l2", "activity_regularizer": keras.regularizers.L1(0.01)})

    def test_weighted_metrics(self):
        self.same_history(
            losses={"weighted_metrics": ["accuracy"], "metrics": None}, sample_weight=np.linspace(0, 2, 32)
        )

    def test_train_on_batch(self):
        penalised = compiled(wrt.penalize(mlp("softmax"), InputGradient()))
        logs = penalised.train_on_batch(X, Y, return_dict=True)
        assert set(logs) == {"loss", "accuracy", "penalty"}

    def test_a_penalty_alone(self):
        """Without labels, and with a loss that does not see the penalty."""
        penalised = wrt.penalize(mlp(), JacobianNorm(exact=True))
        penalised.compile(keras.optimizers.SGD(0.01), lambda y, p: 0 * p[:, 0])
        history = penalised.fit(X, X[:, :3], epochs=3, verbose=0).history["penalty"]
        assert history[2] < 0.9 * history[0]

    def test_batch_statistics_are_those_of_the_forward_pass(self):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        found = []
        for weight in (None, 0.0):
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(3)])
            trained = model if weight is None else wrt.penalize(model, InputGradient(of="label"), weight)
            trained.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            trained.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
            found.append(model.get_weights())
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    def test_several_inputs(self):
        layers = keras.layers
        a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
        model = keras.Model({"a": a, "b": b}, layers.Dense(3)(layers.Concatenate()([a, b])))
        penalised = wrt.penalize(model, InputGradient(of="label"))
        penalised.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x = {"a": X[:, :4], "b": X[:, 4:]}
        kernel = array(model.layers[-1].kernel.value)
        found = penalised.evaluate(x, Y, batch_size=32, verbose=0, return_dict=True)["penalty"]
        assert found == pytest.approx((kernel[:, Y] ** 2).sum() / 32, rel=1e-5)
        assert np.isfinite(penalised.fit(x, Y, verbose=0).history["loss"]).all()

    def test_mixed_precision(self):
        model = mlp("softmax", dtype="mixed_bfloat16")
        penalised = compiled(wrt.penalize(model, InputGradient(), 0.5))
        wanted = evaluated(compiled(wrt.penalize(mlp("softmax"), InputGradient(), 0.5)))
        assert evaluated(penalised) == {k: pytest.approx(v, rel=0.1) for k, v in wanted.items()}
        assert np.isfinite(penalised.fit(X, Y, verbose=0).history["loss"]).all()

    def test_an_unbuilt_model(self):
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = keras.layers.Dense(3, activation="softmax")

            def call(self, x):
                return self.dense(x)

        penalised = compiled(wrt.penalize(Net(), InputGradient(of="label")))
        history = penalised.fit(X, Y, epochs=2, verbose=0).history
        assert min(history["penalty"]) > 0
        assert len(penalised.trainable_variables) == 2


class TestCompiledLoss:
    """`InputGradient(of="loss")` differentiates what was compiled, for every sample."""

    def found(self, end, loss, y):
        model = mlp(end)
        return evaluated(compiled(wrt.penalize(model, InputGradient()), loss, metrics=None), y)["penalty"], model

    @pytest.mark.parametrize(
        ("loss", "end", "y"),
        [
            ("sparse_categorical_crossentropy", "softmax", Y),
            (keras.losses.SparseCategoricalCrossentropy(from_logits=True), None, Y),
            (keras.losses.SparseCategoricalCrossentropy(from_logits=True), None, Y[:, None]),
            ("categorical_crossentropy", "softmax", np.eye(3)[Y]),
            ("crossentropy", "softmax", Y),
            (["crossentropy"], "softmax", np.eye(3)[Y]),
        ],
        ids=["sparse", "logits", "(N, 1)", "one-hot", "by shape", "in a list"],
    )
    def test_cross_entropy(self, loss, end, y):
        found, model = self.found(end, loss, y)
        assert found == pytest.approx(penalty_of(InputGradient(), model), rel=1e-4)

    def test_squared_error(self):
        """Keras takes the mean over the outputs: a third of the sum."""
        targets = X[:, :3]
        for loss in ("mse", keras.losses.MeanSquaredError(), lambda y, p: keras.ops.mean((y - p) ** 2, 1)):
            found, model = self.found(None, loss, targets)
            assert found == pytest.approx(penalty_of(InputGradient(), model, targets) / 9, rel=1e-4)

    def test_a_loss_of_one_output(self):
        """Where Keras brings (N,) and (N, 1) together; broadcast they would be (N, N)."""
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
        kernel, target = array(model.layers[0].kernel.value)[:, 0], X[:, 0]
        wanted = ((2 * (X @ kernel - target)) ** 2 * (kernel**2).sum()).mean()
        for loss in ("mse", lambda y, p: (y - p) ** 2):
            found = evaluated(compiled(wrt.penalize(model, InputGradient()), loss, metrics=None), target)["penalty"]
            assert found == pytest.approx(wanted, rel=1e-4)

    def test_another_compile(self):
        penalised = wrt.penalize(mlp("softmax"), InputGradient())
        first = evaluated(compiled(penalised))["penalty"]
        second = evaluated(compiled(penalised, "mse", metrics=["mae"]), np.eye(3)[Y])["penalty"]
        assert evaluated(compiled(penalised))["penalty"] == pytest.approx(first, rel=1e-6)
        assert abs(second - first) > 0.1 * first

    def test_labels_change_nothing_that_is_compiled(self, runs):
        penalised = compiled(wrt.penalize(mlp("softmax"), InputGradient()))
        penalised.fit(X, Y, batch_size=8, epochs=1, verbose=0)
        before = len(runs)
        penalised.fit(X, np.roll(Y, 1), batch_size=8, epochs=1, verbose=0)
        assert len(runs) - before == (0 if COMPILES else 4)

    def test_none(self):
        penalised = wrt.penalize(mlp(activity_regularizer="l2"), InputGradient())
        penalised.compile("sgd")
        with pytest.raises(OptionError, match="no loss is compiled"):
            penalised.fit(X, Y, verbose=0)

    def test_scalar(self):
        from wrt.errors import SelectionError

        penalised = compiled(wrt.penalize(mlp(), InputGradient()), lambda y, p: keras.ops.mean(p), metrics=None)
        with pytest.raises(SelectionError, match="not their mean"):
            penalised.fit(X, Y, verbose=0)


class TestBad:
    def test_model(self):
        with pytest.raises(ModelError, match=r"function; wrt\.penalize takes a keras\.Model"):
            wrt.penalize(lambda x: x, InputGradient())
        with pytest.raises(ModelError, match="penalised already"):
            wrt.penalize(wrt.penalize(mlp(), InputGradient()), JacobianNorm())

    def test_penalty(self):
        with pytest.raises(OptionError, match=r"such as InputGradient\(\)"):
            wrt.penalize(mlp(), InputGradient)
        with pytest.raises(OptionError, match="expected a function"):
            wrt.penalize(mlp(), "l2")
        with pytest.raises(OptionError, match="more than the 6 entries"):
            wrt.penalize(mlp(), SmallestK(7))
        with pytest.raises(OptionError, match="zero or more"):
            wrt.penalize(mlp(), InputGradient(), weight=-1)


def test_in_ones_own_loop():
    """A penalised model is a model like any other: its derivatives are those of the model."""
    model = mlp()
    penalised = wrt.penalize(model, InputGradient())
    close(wrt.gradient(penalised, X, 1), wrt.gradient(model, X, 1), 1e-6)
    assert array(penalised(tensor(X))).shape == (32, 3)
