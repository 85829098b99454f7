"""The flow and the RLE loss against closed forms and vectors recorded from MMPose."""

import gc
import math
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden_weights import golden_tensor

from keras_regpose.losses import RLE, RealNVP, rle_terms

NETS = {"scale": "s", "translation": "t"}


def reference_flow(tensor) -> RealNVP:
    """A flow filled with the tensors of MMPose's masked 2 → 2 networks, given by (name, shape) → array."""
    flow = RealNVP()
    for net, letter in NETS.items():
        for coupling, network in enumerate(getattr(flow, f"{net}_networks")):
            kept, changed = (1, 0) if coupling % 2 == 0 else (0, 1)
            for layer, (kernel, bias) in enumerate(network):
                prefix = f"{letter}.{coupling}.{2 * layer}"
                shape = [(64, 2), (64, 64), (2, 64)][layer]
                weight = tensor(f"{prefix}.weight", shape)
                offset = tensor(f"{prefix}.bias", shape[:1])
                if layer == 0:
                    weight = weight[:, kept : kept + 1]
                if layer == 2:
                    weight, offset = weight[changed : changed + 1], offset[changed : changed + 1]
                kernel.assign(weight.T)
                bias.assign(offset)
    return flow


def dossier_flow(scale=0.3) -> RealNVP:
    """The flow of the reference dossier, §9.1: tensor p in order s.0 … s.5, t.0 … t.5 holds 0.3·sin(0.7j + 0.9p)."""
    names = [f"{n}.{i}.{k}.{v}" for n in "st" for i in range(6) for k in (0, 2, 4) for v in ("weight", "bias")]

    def tensor(name, shape):
        return (scale * np.sin(0.7 * np.arange(np.prod(shape)) + 0.9 * names.index(name))).reshape(shape)

    return reference_flow(tensor)


POINTS = np.array([[0, 0], [1, -0.5], [-2, 0.25], [0.1, 3]], np.float32)


def test_log_density_equals_the_dossier():
    expected = [-4.14155996, -3.70792562, -6.55180528, -27.08790147]
    np.testing.assert_allclose(dossier_flow().log_prob(POINTS), expected, rtol=2e-6)


def test_zero_flow_is_the_standard_normal():
    expected = [-1.83787707, -2.46287707, -3.86912707, -6.34287707]
    np.testing.assert_allclose(dossier_flow(0).log_prob(POINTS), expected, rtol=1e-6)


def test_a_graph_goes_with_its_function():
    """It held some 250 megabytes of each `fit` until the process ended."""
    function = tf.function(RealNVP().log_prob).get_concrete_function(tf.TensorSpec((4, 2)))
    graph = weakref.ref(function.graph)
    del function
    gc.collect()
    assert graph() is None


def test_density_integrates_to_one():
    axis = np.linspace(-12, 12, 481, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    mass = np.exp(np.asarray(dossier_flow(0.15).log_prob(grid))).sum() * (axis[1] - axis[0]) ** 2
    assert mass == pytest.approx(1, abs=1e-3)


def test_samples_follow_the_density():
    flow = dossier_flow(0.15)
    samples = np.asarray(flow.sample(20_000, seed=1))
    axis = np.linspace(-12, 12, 481, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    density = np.exp(np.asarray(flow.log_prob(grid)))[..., None] * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(samples.mean(0), (grid * density).sum((0, 1)), atol=0.03)


def test_initial_weights_are_the_reference_s():
    keras.utils.set_random_seed(0)
    flow = RealNVP()
    kernels = np.concatenate([w.numpy().ravel() for w in flow.weights if w.name.endswith("kernel")])
    biases = np.concatenate([w.numpy().ravel() for w in flow.weights if w.name.endswith("bias")])
    assert kernels.std() == pytest.approx(0.01, rel=0.02)
    assert (biases == 0).all()


def dossier_batch():
    i = np.arange(12)
    pred = (0.5 + 0.25 * np.sin(1.3 * i)).reshape(2, 3, 2)
    logits = (-1 + 0.8 * np.cos(0.9 * i)).reshape(2, 3, 2)
    target = (0.5 + 0.25 * np.sin(1.3 * i + 0.2)).reshape(2, 3, 2)
    weight = np.array([[1, 0, 1], [1, 1, 0]], float)
    return pred.astype("float32"), logits.astype("float32"), target.astype("float32"), weight.astype("float32")


@pytest.mark.parametrize(
    ("weighted", "distribution", "residual", "with_flow", "with_zero_flow"),
    [
        (True, "laplace", True, 10.1542677497, 1.3054605102),
        (False, "laplace", True, 14.3988171340, -0.2642261026),
        (True, "gaussian", True, 10.6652939093, 1.8164866698),
        (True, "laplace", False, 11.6106079939, 2.7618007544),
    ],
)
def test_loss_equals_the_dossier(weighted, distribution, residual, with_flow, with_zero_flow):
    pred, logits, target, weight = dossier_batch()
    weight = weight if weighted else np.ones_like(weight)
    y_true = np.concatenate([target, weight[..., None]], -1)
    y_pred = np.concatenate([pred, 1 / (1 + np.exp(-logits))], -1)
    for flow, expected in ((dossier_flow(), with_flow), (dossier_flow(0), with_zero_flow)):
        loss = RLE(flow, distribution=distribution, residual=residual)(y_true, y_pred)
        assert float(loss) == pytest.approx(expected, rel=2e-6, abs=1e-6)


def test_gradients_equal_the_dossier():
    pred, logits, target, weight = dossier_batch()
    y_true = np.concatenate([target, weight[..., None]], -1)
    pred, logits = tf.constant(pred), tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch([pred, logits])
        loss = RLE(dossier_flow())(y_true, tf.concat([pred, tf.sigmoid(logits)], -1))
    grad_pred, grad_logits = tape.gradient(loss, [pred, logits])
    np.testing.assert_allclose(
        grad_pred,
        [
            [[-3.96183627, 6.26424548], [0, 0], [-9.60067085, 7.69154906]],
            [[-0.04769353, 8.31846820], [1.47403985, 6.96603570], [0, 0]],
        ],
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        grad_logits,
        [
            [[0.44164105, 0.65621223], [0, 0], [0.62255673, 1.04122619]],
            [[0.62070329, 0.32728618], [0.60369523, 0.95989734], [0, 0]],
        ],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("distribution", ["laplace", "gaussian"])
@pytest.mark.parametrize("residual", [True, False])
def test_loss_gradients_and_flow_equal_mmpose(golden, distribution, residual):
    recorded = np.load(golden / "rle_loss.npz")
    case = f"{distribution}_{'residual' if residual else 'noresidual'}__"
    flow = reference_flow(lambda name, shape: golden_tensor(f"head.loss_module.flow_model.{name}", shape))
    np.testing.assert_allclose(
        flow.log_prob(recorded[case + "flow_x"]), recorded[case + "flow_log_prob"], rtol=1e-5, atol=1e-5
    )
    assert (recorded["weight"][..., 0] == recorded["weight"][..., 1]).all()
    y_true = np.concatenate([recorded["target"], recorded["weight"][..., :1]], -1)
    pred, logits = tf.constant(recorded["pred"]), tf.constant(recorded["sigma_logit"])
    with tf.GradientTape() as tape:
        tape.watch([pred, logits])
        y_pred = tf.concat([pred, tf.sigmoid(logits)], -1)
        loss = RLE(flow, distribution=distribution, residual=residual)(y_true, y_pred)
    variables = [pred, logits] + [variable.value for variable in flow.trainable_variables]
    grad_pred, grad_logits, *grad_flow = tape.gradient(loss, variables)
    assert float(loss) == pytest.approx(float(recorded[case + "loss"]), rel=1e-5)
    for ours, name in ((grad_pred, "grad_pred"), (grad_logits, "grad_sigma_logit")):
        expected = recorded[case + name]
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    # MMPose's masked networks have weights that take no part; theirs get no gradient, so the norms are the same.
    for variable, gradient in zip(flow.trainable_variables, grad_flow, strict=True):
        net, coupling, layer, kind = variable.name.split("_")
        letter = NETS[net]
        name = f"{letter}.{coupling}.{2 * int(layer)}.{'weight' if kind == 'kernel' else 'bias'}"
        assert np.linalg.norm(gradient) == pytest.approx(float(recorded[f"{case}gradnorm__{name}"]), rel=1e-4)


def test_identity_flow_gives_the_closed_form():
    """With a standard normal as the density, the loss of one keypoint is known on paper."""
    sigma, error = 0.1, np.array([0.05, -0.2])
    y_pred = np.array([[[0.5 + error[0], 0.5 + error[1], sigma, sigma]]], "float32")
    terms = rle_terms(y_pred, np.array([[[0.5, 0.5, 1]]], "float32"), dossier_flow(0).log_prob)
    e = error / sigma
    log_density = -math.log(2 * math.pi) - 0.5 * (e**2).sum()
    assert float(terms["flow"][0]) == pytest.approx(2 * math.log(sigma) - 2 * log_density, rel=1e-5)
    assert float(terms["residual"][0]) == pytest.approx(2 * math.log(2 * sigma) + np.abs(e).sum(), rel=1e-5)
    assert float(terms["sigma"][0]) == pytest.approx(sigma)


def test_masked_keypoints_never_touch_loss_or_gradient():
    pred, logits, target, weight = dossier_batch()
    flow = dossier_flow()
    results = []
    for value in (0.0, np.nan, 1e30):
        y_true = np.concatenate([np.where(weight[..., None] > 0, target, value), weight[..., None]], -1)
        y_pred = tf.constant(np.concatenate([pred, 1 / (1 + np.exp(-logits))], -1))
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            loss = RLE(flow)(y_true.astype("float32"), y_pred)
        results.append(
            (float(loss), *(g.numpy() for g in tape.gradient(loss, [y_pred, flow.trainable_variables[0].value])))
        )
    for loss, *gradients in results[1:]:
        assert loss == results[0][0]
        for ours, first in zip(gradients, results[0][1:], strict=True):
            np.testing.assert_array_equal(ours, first)


def test_keypoint_weights_multiply():
    pred, logits, target, weight = dossier_batch()
    y_true = np.concatenate([target, weight[..., None]], -1)
    y_pred = np.concatenate([pred, 1 / (1 + np.exp(-logits))], -1)
    doubled = np.concatenate([target, weight[..., None] * np.array([1, 2, 0.5])[:, None]], -1).astype("float32")
    flow = dossier_flow()
    weighted = RLE(flow, keypoint_weights=[1, 2, 0.5])(y_true, y_pred)
    assert float(weighted) == pytest.approx(float(RLE(flow)(doubled, y_pred)), rel=1e-6)


def test_flow_stays_float32_under_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        flow = RealNVP()
        assert {str(weight.dtype) for weight in flow.weights} == {"float32"}
        assert flow.log_prob(tf.zeros((3, 2), tf.bfloat16)).dtype == tf.float32
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_wrong_shapes_and_names_are_explained():
    with pytest.raises(ValueError, match=r"predictions \(B, K, 4\)"):
        rle_terms(np.zeros((1, 3, 2)), np.zeros((1, 3, 3)), None)
    with pytest.raises(ValueError, match="'laplace' or 'gaussian'"):
        rle_terms(np.zeros((1, 3, 4)), np.zeros((1, 3, 3)), None, distribution="cauchy")


def test_unit_errors_keep_the_size_of_sigma_out_of_the_flow():
    """When all σ grow alike, the flow's part of the loss stays as it is."""
    generator = np.random.default_rng(0)
    target = np.concatenate([generator.uniform(0.3, 0.7, (8, 5, 2)), np.ones((8, 5, 1))], -1).astype("float32")
    target[0, 0, 2] = 0
    seen = []

    def log_prob(error):
        seen.append(np.array(error))
        return dossier_flow().log_prob(error)

    errors, terms = generator.laplace(0, 0.05, (8, 5, 2)), {}
    for sigma in (0.05, 0.5):
        pred = np.concatenate([target[..., :2] + errors, np.full((8, 5, 2), sigma)], -1).astype("float32")
        terms[sigma] = rle_terms(pred, target, log_prob, unit_errors=True)
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-5)
    assert np.abs(seen[0])[target[..., 2] > 0].mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(terms[0.5]["flow"], terms[0.05]["flow"], rtol=1e-4)


def test_unit_errors_pull_every_keypoint_to_its_label():
    """Also where the density has lighter tails, so that a larger mean error would lower its part of the loss."""
    generator = np.random.default_rng(0)
    errors = generator.laplace(0, 0.03, (8, 5, 2)) * generator.choice([1, 20], (8, 5, 1), p=[0.9, 0.1])
    target = np.concatenate([np.full((8, 5, 2), 0.5), np.ones((8, 5, 1))], -1).astype("float32")
    pred = tf.Variable(np.concatenate([0.5 + errors, np.full((8, 5, 2), 0.1)], -1), dtype="float32")
    with tf.GradientTape() as tape:
        terms = rle_terms(pred, target, lambda e: -0.5 * tf.reduce_sum(e**2, -1), unit_errors=True)
        loss = tf.reduce_sum(terms["flow"])
    gradient = tape.gradient(loss, pred).numpy()
    assert (gradient[..., :2] * errors > 0).all()
    # With all σ the flow's part changes not at all.
    assert abs((gradient[..., 2:] * 0.1).sum()) < 1e-3 * np.abs(gradient[..., 2:] * 0.1).sum()
