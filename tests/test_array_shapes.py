"""The check of array shapes bites, and leaves alone what functions refuse themselves."""

import jaxtyping
import numpy as np
import pytest

from keras_regpose import geometry
from keras_regpose.images import ImageError, read_image


def test_a_wrong_shape_that_a_function_takes_is_an_error_in_tests():
    with pytest.raises(jaxtyping.TypeCheckError, match="transform_points"):
        geometry.transform_points(np.zeros((4, 2)), np.zeros((3, 3)))
    with pytest.raises(jaxtyping.TypeCheckError, match="crop_image"):
        geometry.cut(np.zeros((64, 64, 3), np.float32), np.array([0, 0, 9, 9]), (32, 32))
    with pytest.raises(ImageError, match="channels last"):
        read_image(np.zeros((3, 40, 60), np.uint8))
