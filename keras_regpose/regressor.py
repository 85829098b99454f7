"""PoseRegressor: backbone, regression head and flow as one `keras.Model`."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_regpose.metrics.keras_metrics  # noqa: F401 — registers what a saved model may be compiled with
import keras_regpose.schedules  # noqa: F401 — registers the schedules that a saved optimizer may use
from keras_regpose.codec import HEADS, METHODS
from keras_regpose.export.exporter import export_model
from keras_regpose.hub.preset_files import save_preset
from keras_regpose.hub.publish import push_model
from keras_regpose.inference.density import PoseDensity
from keras_regpose.inference.estimator import estimate
from keras_regpose.losses.flow import RealNVP
from keras_regpose.losses.rle import RLE
from keras_regpose.losses.smooth_l1 import LOSSES
from keras_regpose.models.network import pose_graph, pose_head
from keras_regpose.models.replicas import SharedModel
from keras_regpose.models.rewrite import fused_graph, graph_with_dtype, stock_graph
from keras_regpose.skeleton import Skeleton, matched_keypoints

_log = logging.getLogger(__name__)


@keras.saving.register_keras_serializable("keras_regpose")
class PoseRegressor(SharedModel):
    """A functional Keras model that regresses keypoints, and their uncertainty, from crops of single people.

    `predict` takes (B, H, W, 3) RGB crops with values 0–255 (uint8 or float) and returns (B, K, 4) float32: x, y, σx,
    σy in units of crop width and height, or (B, K, 2) for `method="deeppose"`. Everything Keras offers works on it.

    Args:
        backbone: str or keras.Model. `"resnet18"`, `"resnet34"`, `"resnet50"`, `"resnet101"`, `"resnet152"`,
            `"mobilenetv2"`, `"mobilenetv2_0.5"` (any width), or a functional model from images to one feature map:
            a KerasCV backbone, a `keras.applications` model without its top. A given model is copied.
        skeleton: `Skeleton`. The keypoints to regress.
        input_size: (height, width) of the crops in pixels.
        method: "rle" for residual log-likelihood estimation, "deeppose" for plain regression.
        pixel_mean: 3 floats or None. Subtracted from R, G, B (0–255) inside the graph. None is ImageNet's mean, or 0
            for a backbone whose first layer scales pixels itself, as that of KerasCV's ImageNet presets does.
        pixel_std: 3 floats or None. Divides the difference. None is ImageNet's deviation, or 1 for such a backbone.
        graph: keras.Model or None. A saved graph to wrap; `backbone` is then left out.
        head: "pooled" for the published head, which regresses from the mean of the last features; "integral" for
            positions as expectations of maps (see `models/integral.py`), which small networks learn better. It takes
            `method="rle"`, a backbone by name, and sides that are multiples of 32.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> import numpy as np, keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> model.predict(np.zeros((2, 64, 48, 3), "uint8"), verbose=0).shape
    (2, 17, 4)

    From ImageNet weights of KerasCV, which are downloaded:

    >>> import keras_cv  # doctest: +SKIP
    >>> backbone = keras_cv.models.ResNetBackbone.from_preset("resnet50_imagenet")  # doctest: +SKIP
    >>> model = rp.PoseRegressor(backbone, rp.COCO17)  # doctest: +SKIP
    """

    def __init__(
        self,
        backbone: str | keras.Model | None = None,
        skeleton: Skeleton | None = None,
        input_size: tuple[int, int] = (256, 192),
        method: str = "rle",
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        graph: keras.Model | None = None,
        head: str = "pooled",
    ):
        if not isinstance(skeleton, Skeleton):
            raise ValueError(f"PoseRegressor needs a Skeleton, such as COCO17. Received: {skeleton!r}")
        if method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}. Received: {method!r}")
        if head not in HEADS or (head == "integral" and method != "rle"):
            raise ValueError(f"head must be one of {HEADS}, integral with the method 'rle'. Received: {head!r}")
        if len(input_size) != 2 or not all(int(side) == side and side >= 32 for side in input_size):
            raise ValueError(f"input_size must be (height, width) of at least 32 pixels. Received: {input_size}")
        input_size = (int(input_size[0]), int(input_size[1]))
        if (backbone is None) == (graph is None):
            raise ValueError("PoseRegressor needs either a backbone or a saved graph")
        if backbone is not None:
            graph = pose_graph(backbone, len(skeleton), input_size, method, pixel_mean, pixel_std, head)
        assert graph is not None
        expected = (None, len(skeleton), 4 if method == "rle" else 2)
        if tuple(graph.output_shape) != expected or tuple(graph.input_shape) != (None, *input_size, 3):
            form = f"A graph for {method!r} with {len(skeleton)} keypoints maps {(None, *input_size, 3)} to {expected}"
            raise ValueError(f"{form}. Received one that maps {graph.input_shape} to {graph.output_shape}")
        super().__init__(graph.inputs[0], graph.outputs[0], name="pose_regressor")
        self.skeleton, self.input_size, self.method = skeleton, input_size, method
        self._process = os.getpid()
        # Keras trains and saves what hangs on the model; a flow that only the loss knew would silently stay as it is.
        self.flow: Any = RealNVP(name="flow") if method == "rle" else None
        self.loss_parts = {}
        self.quantiles: dict | None = None  # of errors in units of σ, from `recalibrate`; see inference/regions.py

    @property
    def backbone(self) -> keras.Model:
        """The part from RGB crops (0–255) to the last feature map, normalisation included; weights are shared."""
        return keras.Model(self.inputs[0], self.get_layer("pool").input, name="backbone")

    @property
    def head(self) -> str:
        """The kind of its head, "pooled" or "integral"."""
        return "integral" if any(layer.name == "maps" for layer in self.layers) else "pooled"

    def compile(self, optimizer="adam", loss=None, *, keypoint_weights=None, unit_errors=False, **kwargs):
        """Configures training as `keras.Model.compile` does, with this model's loss as the default.

        Args:
            optimizer: str or `keras.optimizers.Optimizer`.
            loss: None for the method's own loss (RLE, or smooth L1 for "deeppose"), for "deeppose" also "wing" and
                "soft_wing", or anything Keras accepts.
            keypoint_weights: sequence of K floats or None. Weights of the keypoints in the method's own loss.
            unit_errors: bool. Whether the flow sees errors of mean size 1, so that σ keeps its size; see `RLE`.
            **kwargs: Passed on to `keras.Model.compile`.
        """
        own_loss = loss is None or (isinstance(loss, str) and loss in LOSSES)
        if own_loss and loss is not None and self.method == "rle":
            raise ValueError(f"The loss {loss!r} has no σ: it is for method='deeppose'. Leave it out for RLE")
        own = {"keypoint_weights": keypoint_weights, "unit_errors": unit_errors, **kwargs}
        own |= {"optimizer": optimizer, "loss": loss}
        self._own_compile_config = own if own_loss else None
        self.loss_parts = {}
        if own_loss and self.method == "rle":
            self.loss_parts = {name: keras.metrics.Mean(name=f"rle_{name}") for name in ("flow", "residual", "sigma")}
            loss = RLE(self.flow, keypoint_weights=keypoint_weights, trackers=self.loss_parts, unit_errors=unit_errors)
        elif own_loss:
            loss = LOSSES[loss or "smooth_l1"](keypoint_weights=keypoint_weights)
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def make_train_function(self, force=False):
        """Builds the optimizer first: TensorFlow traces a step in which variables are made twice, each in a branch."""
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        self.quantiles = None  # errors will be other ones
        return super().make_train_function(force)

    def predict_on_batch(self, x):
        """Predicts as `keras.Model.predict_on_batch` does, unless it would wait forever."""
        if self._process != os.getpid():
            why = "of which this one is a fork, and the threads that compute stay there"
            advice = "make it in each worker, spawn the workers, or load it with runtime='onnx'"
            raise RuntimeError(f"This model was made in another process, {why}: {advice}")
        return super().predict_on_batch(x)

    def with_skeleton(self, skeleton: Skeleton) -> "PoseRegressor":
        """Returns a model for other keypoints: this backbone, shared, with a head of its own.

        Keypoints that both skeletons have, by side and joint of their names, keep what the head has learned of their
        x and y. All other keypoints, every σ and the flow are new and untrained: a σ that was learned on other pictures
        is too sure on these, and the flow's density then makes losses of hundreds of thousands. The log says which
        keypoints were kept.

        Args:
            skeleton: `Skeleton`.

        Returns:
            `PoseRegressor`.

        Example:

        >>> import keras_regpose as rp
        >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
        >>> model.with_skeleton(rp.LSP14).output_shape  # 12 of these 14 keypoints are COCO's
        (None, 14, 4)
        """
        merged = self.get_layer("pyramid_relu").output if self.head == "integral" else None
        head = pose_head(self.get_layer("pool").output, len(skeleton), self.method, merged)
        graph = keras.Model(self.inputs[0], head, name="pose_regressor")
        model = PoseRegressor(skeleton=skeleton, input_size=self.input_size, method=self.method, graph=graph)
        kept = matched_keypoints(skeleton.keypoints, self.skeleton.keypoints)
        name, each = ("maps", 1) if merged is not None else ("coordinates", 2)
        layers = model.get_layer(name), self.get_layer(name)
        for new, learned in zip(*(layer.weights for layer in layers), strict=True):
            # The last axis of a weight holds x and y of each keypoint, or its map.
            rows, known = (np.array(weight).reshape(*weight.shape[:-1], -1, each) for weight in (new, learned))
            rows[..., list(kept), :] = known[..., list(kept.values()), :]
            new.assign(rows.reshape(new.shape))
        names = ", ".join(skeleton.keypoints[place] for place in kept) or "none"
        message = "Kept the backbone and, of the %d keypoints, x and y of these: %s; the rest of the head is untrained"
        _log.warning(message, len(skeleton), names)
        return model

    def with_dtype(self, dtype: str) -> "PoseRegressor":
        """Returns a copy that computes in another precision.

        Args:
            dtype: str. Name of a Keras dtype policy: "mixed_bfloat16", "mixed_float16" (whose loss is scaled) or
                "float32". What computes on pixels and coordinates, and the flow, stays in float32.

        Returns:
            `PoseRegressor` with weights of its own.

        Raises:
            ValueError: If there is no such policy.
        """
        copied = PoseRegressor.from_keras(graph_with_dtype(self, dtype), self.skeleton, self.method)
        copied.dtype_policy = keras.DTypePolicy(dtype)  # Keras scales the loss by the model's own
        copied.quantiles = self.quantiles
        if self.flow is not None:
            copied.flow.set_weights(self.flow.get_weights())
        return copied

    # Functions of their own: exported models are estimated with as well, and folders published.
    estimate = estimate
    push_to_hub = push_model

    def density(self, people):
        """Returns the density that training has learned for where people's joints are.

        Args:
            people: `Poses`, as `estimate` returned it.

        Returns:
            `inference.density.PoseDensity`: its `log_prob` evaluates points in pixels, its `sample` draws some.

        Raises:
            ValueError: If the model has not learned one, since it is not trained with RLE.
        """
        return PoseDensity(self, people)

    def save_to_preset(self, directory, onnx: bool = False) -> None:
        """Saves the model as a preset directory, which `from_preset` and plain `keras.saving.load_model` open.

        Args:
            directory: str or path. A preset that is already there is replaced.
            onnx: bool. Whether an ONNX export goes with it, so that it runs at once and without Keras.
        """
        save_preset(self, directory, onnx=onnx)

    def export(self, filepath, format=None, precision="float32", calibration=None, verbose=True, **facts):
        """Writes the model as a file that runs without Keras, which `load_exported` opens.

        The file takes (B, H, W, 3) uint8 RGB crops for any B and gives keypoints and sigmas as two outputs. A JSON
        file beside it says what they mean. It is compared with Keras before it takes its name.

        Args:
            filepath: str or path. Its suffix says the format: `pose.onnx`, `pose.xml` (OpenVINO), `pose.tflite`
                (LiteRT), or `pose` without a suffix for the folder of a TF SavedModel.
            format: None, or "onnx", "openvino", "litert", "tf_saved_model": the same, said twice.
            precision: "float32", "bfloat16" (OpenVINO), "float16" (ONNX, LiteRT), or "int8" (all but TF SavedModel).
            calibration: (N, H, W, 3) uint8 array of RGB crops, which int8 takes its ranges from and every export is
                compared on. See `export.calibration_crops`. None compares on drawn people.
            verbose: bool. Whether to log how far the export is from Keras, at level INFO.
            **facts: JSON-ready values that go into the JSON file (preset, licence).

        Returns:
            `export.Deviation`: median, 95th percentile and maximum in crop pixels.

        Raises:
            ValueError: If an argument is not as above, or the export does not give the model's outputs.
            ImportError: If a package that the format needs is not installed.

        Example:

        >>> import keras_regpose as rp
        >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
        >>> model.export("pose_model", verbose=False).median < 0.01
        True
        """
        deviation = export_model(self, filepath, format, precision, calibration, **facts)
        if verbose:
            _log.info("%s: %s", filepath, deviation)
        return deviation

    def to_keras(self) -> keras.Model:
        """Returns a copy as a plain `keras.Model` of stock layers: what is saved, exported and deployed."""
        return stock_graph(self)

    @classmethod
    def from_keras(cls, graph: keras.Model, skeleton: Skeleton, method: str = "rle") -> "PoseRegressor":
        """Wraps a plain graph, as `to_keras` returns it, so that it trains and estimates."""
        input_size = graph.input_shape[1:3]
        return cls(skeleton=skeleton, input_size=input_size, method=method, graph=fused_graph(graph))

    def get_config(self):
        graph = keras.Model(self.inputs[0], self.outputs[0], name="pose_regressor")
        described = {"skeleton": self.skeleton.to_dict(), "input_size": list(self.input_size), "method": self.method}
        return described | {"graph": graph.get_config(), "quantiles": self.quantiles}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        graph = keras.Model.from_config(config["graph"], custom_objects=custom_objects)
        model = cls.from_keras(graph, Skeleton.from_dict(config["skeleton"]), config["method"])
        model.quantiles = config.get("quantiles")
        return model

    def get_compile_config(self):
        if getattr(self, "_own_compile_config", None) is None:
            return super().get_compile_config()
        return keras.saving.serialize_keras_object(self._own_compile_config)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)
