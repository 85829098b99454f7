"""Intervals against what is known: their coverage, pycocotools on pictures that are there several times."""

import numpy as np
import pytest

from keras_regpose.evaluation.coco import coco_evaluation, coco_figures
from keras_regpose.evaluation.intervals import interval, over_people, over_pictures
from keras_regpose.metrics import coco_keypoints


def test_95_of_100_intervals_hold_the_mean():
    generator, count, inside = np.random.default_rng(0), 300, 0
    for _ in range(count):
        values = generator.normal(3, 2, (100, 1))
        _, low, high = interval(values.mean(), over_people({"mean": values}, draws=400).drawn()["mean"])
        inside += low <= 3 <= high
    error = np.sqrt(0.95 * 0.05 / count)
    assert abs(inside / count - 0.95) < 3 * error


def test_an_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(0, 2, (400, 1))
    value, low, high = interval(values.mean(), over_people({"mean": values}).drawn()["mean"])
    assert low < value < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(400), rel=0.05)


def test_people_weigh_by_their_labels():
    # One keypoint of the first person counts, three of the second.
    values = np.array([[1.0, np.nan, np.nan], [0.0, 0.0, 1.0]])
    figures = over_people({"share": values, "other": 2 * values}).figures
    assert figures(np.array([1, 1])) == {"share": 0.5, "other": 1.0}
    assert figures(np.array([2, 0]))["share"] == 1.0 and figures(np.array([2, 1]))["share"] == 3 / 5
    unlabelled = over_people({"share": np.array([[np.nan], [1.0]])})
    assert np.isnan(unlabelled.figures(np.array([2, 0]))["share"])
    assert interval(1.0, unlabelled.drawn()["share"]) == (1, 1, 1)


def test_draws_are_those_of_their_seed_and_pairs_of_the_same_people_are_narrower():
    generator = np.random.default_rng(2)
    hardness = generator.normal(0, 5, (200, 1))
    first, second = (over_people({"error": hardness + shift + generator.normal(0, 1, (200, 1))}) for shift in (0, 0.5))
    np.testing.assert_array_equal(first.drawn()["error"], first.drawn()["error"])
    _, low, high = interval(0, first.drawn()["error"] - second.drawn()["error"])
    _, unpaired_low, unpaired_high = interval(0, first.drawn()["error"] - second.drawn(seed=1)["error"])
    assert high < 0  # the pairs tell them apart
    assert unpaired_low < 0 < unpaired_high and high - low < 0.3 * (unpaired_high - unpaired_low)


def pictures_of(numbers, seed=0):
    """People of two categories and all sizes, and predictions with misses, doubles and false ones, of some pictures."""
    images, annotations, predictions = [], [], []
    for place, number in enumerate(numbers):
        generator = np.random.default_rng([seed, number])
        images.append({"id": place})
        for _ in range(generator.integers(0, 4)):
            width = float(np.exp(generator.uniform(3, 6)))
            points = generator.uniform(0, width, (17, 2))
            visible = generator.integers(0, 3, 17)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": place, "category_id": int(generator.integers(1, 3))}
                | {"area": width**2 / 2, "bbox": [0, 0, width, width], "iscrowd": 0}
                | {"keypoints": np.c_[points, visible].ravel().tolist()}
            )
            for _ in range(generator.integers(0, 3)):
                moved = points + generator.normal(0, width * np.exp(generator.uniform(-5, -1.5)), (17, 2))
                predictions.append(
                    {"image_id": place, "category_id": annotations[-1]["category_id"], "keypoints": moved}
                    | {"scores": np.ones(17), "box_score": generator.random()}
                )
    categories = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}, {"id": 3, "name": "nobody"}]
    return predictions, {"images": images, "annotations": annotations, "categories": categories}


def test_drawn_pictures_score_as_if_pycocotools_had_matched_them_again():
    count = 40
    evaluation = coco_evaluation(*pictures_of(range(count)), "bbox", None)
    population = over_pictures(evaluation)
    assert population.count == count
    figures = population.figures(np.ones(count, int))
    assert figures == pytest.approx(coco_keypoints(*pictures_of(range(count)), "bbox", None), abs=1e-12)
    assert figures == pytest.approx(coco_figures(evaluation), abs=1e-12)
    for seed in range(3):
        drawn = np.random.default_rng(seed).integers(count, size=count)
        expected = coco_keypoints(*pictures_of(np.sort(drawn)), "bbox", None)
        found = population.figures(np.bincount(drawn, minlength=count))
        assert found == pytest.approx(expected, abs=1e-12) and 0.1 < found["AP"] < 0.9
    drawn = population.drawn()
    for name, value in figures.items():
        _, low, high = interval(value, drawn[name])
        assert low < value < high


def test_without_predictions_or_people_of_a_size_there_is_nothing_or_nan():
    _, truth = pictures_of(range(5))
    for annotation in truth["annotations"]:
        annotation["area"] = 5000.0
    truth["images"].append({"id": 5})  # nobody is there
    population = over_pictures(coco_evaluation([], truth, "bbox", None))
    figures = population.figures(np.ones(6, int))
    assert figures["AP"] == figures["AR"] == figures["APM"] == 0 and np.isnan(figures["APL"])
    assert np.isnan(population.figures(np.array([0, 0, 0, 0, 0, 6]))["AP"])
