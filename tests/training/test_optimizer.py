"""What a recipe's optimizer does: clipping, accumulation, frozen stages, half precision."""

import keras
import numpy as np
import pytest
from tiny_model import tiny_model

from keras_regpose import COCO17, PoseRegressor
from keras_regpose.data import Augmentation, Synthetic
from keras_regpose.training import Recipe, train
from keras_regpose.training.optimizer import make_optimizer

PEOPLE = Synthetic(8, seed=0)
SETTINGS = {"epochs": 1, "warmup": 0, "verbose": 0, "augmentation": Augmentation.none()}


def small_model():
    keras.utils.set_random_seed(1)
    return PoseRegressor("mobilenetv2_0.25", COCO17, (64, 48))


def values(variables):
    return [np.array(variable) for variable in variables]


def test_accumulated_gradients_move_the_weights_as_a_large_batch_does():
    # Frozen altogether but for the head: batch statistics of a part of a batch are others than the whole's.
    models = [tiny_model(), tiny_model()]
    for model in models:
        for layer in model.layers:
            layer.trainable = layer.name in ("coordinates", "sigma")
    train(models[0], PEOPLE, batch_size=8, learning_rate=1e-2, **SETTINGS | {"epochs": 3})
    train(models[1], PEOPLE, batch_size=2, learning_rate=1e-2, accumulate=4, **SETTINGS | {"epochs": 3})
    assert int(models[1].optimizer.iterations) == 3
    start = tiny_model()
    for name in ("coordinates", "sigma"):
        first, large, small = (model.get_layer(name).kernel for model in (start, *models))
        assert np.abs(np.array(large) - np.array(first)).max() > 0.01
        np.testing.assert_allclose(np.array(small), np.array(large), atol=2e-5)


def test_gradients_are_clipped_by_their_norm_together():
    variables = [keras.Variable([0.0, 0.0]), keras.Variable([0.0])]
    optimizer = make_optimizer(Recipe(clip_norm=1.0), 1e-3)
    optimizer.apply([keras.ops.array([30.0, 0.0]), keras.ops.array([40.0])], variables)
    first_moment = [float(np.array(variable).max()) for variable in optimizer._momentums]
    np.testing.assert_allclose(first_moment, [0.1 * 0.6, 0.1 * 0.8], rtol=1e-6)


def test_frozen_stages_stay_as_they_are_batch_statistics_included():
    model = small_model()
    before = {variable.path: np.array(variable) for variable in model.variables}
    train(model, PEOPLE, batch_size=4, frozen_stages=2, learning_rate=1e-2, **SETTINGS)
    moved = {path for path, value in before.items() if not np.array_equal(value, dict_of(model)[path])}
    frozen = {path for path in before if path.startswith(("conv1", "bn1", "layer1", "layer2"))}
    later = {path for path in before if path.startswith(("layer3", "layer7", "coordinates", "sigma"))}
    assert any("moving_mean" in path for path in frozen) and any("moving_mean" in path for path in later)
    assert not moved & frozen
    assert later - moved == set()
    assert all(layer.trainable for layer in model.layers)  # the next run may move them


def test_more_stages_than_there_are():
    model = small_model()
    with pytest.raises(ValueError, match="frozen_stages must be at most 7 for this backbone. Received: 8"):
        train(model, PEOPLE, batch_size=4, frozen_stages=8, **SETTINGS)
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_half_precision_learns_as_float32_does(precision):
    # float16 skips its first dozen steps, until the scale of the loss has come down from 32,768 to what fits.
    losses, epochs = {}, 40 if precision == "mixed_float16" else 10
    for policy in ("float32", precision):
        model = tiny_model().with_dtype(policy)
        settings = SETTINGS | {"epochs": epochs, "precision": policy}
        history = train(model, PEOPLE, batch_size=8, learning_rate=1e-2, **settings)
        losses[policy] = history["loss"]
        assert {str(variable.dtype) for variable in model.trainable_variables} == {"float32"}
        assert {str(weight.dtype) for weight in model.flow.weights} == {"float32"}
        assert model.get_layer("first").compute_dtype == policy.removeprefix("mixed_")
        if policy == "mixed_float16":
            assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert losses[precision][0] == pytest.approx(losses["float32"][0], rel=0.01)
    assert min(losses["float32"]) < 0.8 * losses["float32"][0]
    assert min(losses[precision]) < 0.8 * losses[precision][0]


def test_a_precision_that_is_not_the_models_is_refused():
    with pytest.raises(ValueError, match="computes in float32, but precision is mixed_bfloat16. Pass"):
        train(tiny_model(), PEOPLE, batch_size=8, precision="mixed_bfloat16", **SETTINGS)


def dict_of(model):
    return {variable.path: np.array(variable) for variable in model.variables}
