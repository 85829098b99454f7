"""What every reader yields: one person in one photograph."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from keras_regpose.images import ImageError


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
        category_id: int. The number of its category, 1 for people.
        image_size: (width, height) in pixels of the image that was labelled, or None if it is not known.
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
    category_id: int = 1
    image_size: tuple[int, int] | None = None

    def check_size(self, image: UInt8[np.ndarray, "height width 3"]) -> None:
        """Raises ImageError if the decoded image has another size than the one that was labelled."""
        height, width = image.shape[:2]
        if self.image_size is not None and tuple(self.image_size) != (width, height):
            name = self.image if isinstance(self.image, str) else f"with image_id {self.image_id}"
            turned = tuple(self.image_size) == (height, width)
            what = "it is turned, by its EXIF orientation or not" if turned else "it was resized"
            raise ImageError(
                f"The image {name} has {width} × {height} pixels, and its labels were made for {self.image_size[0]} × "
                f"{self.image_size[1]}: {what}, so use the images that were labelled, or labels for these"
            )
