"""Picture files with a drawn person in each."""

import cv2
import pytest

from keras_regpose.data import Synthetic
from keras_regpose.data.sample import Sample


@pytest.fixture
def files(tmp_path):
    """Twelve people in twelve picture files."""
    samples = []
    for number, person in enumerate(Synthetic(12, seed=0)):
        path = str(tmp_path / f"{number}.png")
        cv2.imwrite(path, person.image[..., ::-1])
        samples.append(Sample(path, person.box, person.keypoints, person.visible, number, number))
    return samples
