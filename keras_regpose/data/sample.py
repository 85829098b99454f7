"""What every reader yields: one person in one photograph."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True, eq=False)
class Sample:
    """One annotated person.

    Args:
        image: str path of the image file, or an (H, W, 3) uint8 RGB array.
        box: (4,) float32 array. The person's box, xyxy in image pixels, without padding.
        keypoints: (K, 2) float32 array in image pixels; the first pixel's centre is (0, 0).
        visible: (K,) float32 array. 1 for labelled keypoints, 0 for the others.
        image_id: int. The image's number; several samples may share it.
        id: int. The annotation's number, unique in its data set.
        area: float. Area of the person in square pixels, as COCO's evaluation uses it.
        box_score: float. The detector's confidence; 1 for annotated boxes.
        head_size: float or None. MPII's normaliser of PCKh, in pixels.
    """

    image: str | UInt8[np.ndarray, "height width 3"]
    box: Float[np.ndarray, "4"]
    keypoints: Float[np.ndarray, "keypoints 2"]
    visible: Float[np.ndarray, " keypoints"]
    image_id: int
    id: int
    area: float = 0.0
    box_score: float = 1.0
    head_size: float | None = None
