"""What the demo learns: a preset is fine-tuned on drawn people, and measured before and after."""

import logging
from pathlib import Path

import keras

from keras_regpose.data.augment import Augmentation
from keras_regpose.drawn.people import Synthetic
from keras_regpose.evaluation.evaluate import correct_keypoints, predict_samples, score_predictions
from keras_regpose.evaluation.sheets import prediction_sheet
from keras_regpose.images import save_picture
from keras_regpose.presets import BUNDLED_PRESET, from_preset
from keras_regpose.recipe import Recipe
from keras_regpose.training import train

_log = logging.getLogger(__name__)


def run_demo(output: Path, people: int, epochs: int) -> dict:
    """Fine-tunes the bundled preset on drawn people, offline.

    Args:
        output: path. Folder for the pictures and the fine-tuned preset.
        people: int. Drawn images to learn from.
        epochs: int. Passes over them.

    Returns:
        dict with the figures before and after: AP in [0, 1] and PCK at 0.2 torso lengths in [0, 1].
    """
    keras.utils.set_random_seed(0)
    output.mkdir(parents=True, exist_ok=True)
    training, test = list(Synthetic(people, seed=1)), Synthetic(max(people // 10, 64), seed=2)
    _log.info("Drew %d people to learn from and %d to test on", len(training), len(test))
    model = from_preset(BUNDLED_PRESET)
    before = _figures(model, test)
    augmentation = Augmentation(rotation=30, scale_range=(0.8, 1.2), half_body_probability=0)
    recipe = Recipe.with_settings(batch_size=32, learning_rate=6e-4, schedule="cosine", clip_norm=5.0, epochs=epochs)
    # Frozen to its last stage: the head alone learns, which takes seconds.
    train(model, training, recipe=recipe, unit_errors=True, frozen_stages=7, augmentation=augmentation)
    after = _figures(model, test)
    save_picture(output / "predictions.png", prediction_sheet(*predict_samples(model, test[:24]), test[:24]))
    model.save_to_preset(output / "preset")
    return {"before": before, "after": after}


def _figures(model, samples):
    poses, positions = predict_samples(model, samples)
    figures = score_predictions(poses, positions, samples, model.input_size)
    return {"AP": figures["AP"], "PCK@0.2 of the torso": correct_keypoints(poses, positions, samples)["Mean"]}
