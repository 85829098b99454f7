"""Images that cannot be read: how they are named and counted, and when they are too many."""

import logging
import threading
from dataclasses import dataclass
from typing import Any

from keras_regpose.images import ImageError

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class UnreadableImages:
    """Counts images that cannot be read, and names each once in the log. Threads may share it.

    Args:
        people: int. Number of all people in the data set.
        max_share: float. If the images of a larger share of them cannot be read, that is an error.

    Attributes:
        errors: dict. What is wrong with each image.
    """

    people: int
    max_share: float

    def __post_init__(self):
        self.errors: dict[Any, str] = {}
        self._lost = 0
        self._lock = threading.Lock()

    def add(self, image: Any, error: ImageError, people: int = 1) -> None:
        """Counts an image, once however often it is added.

        Args:
            image: Its path or number.
            error: `ImageError`. Why it cannot be read.
            people: int. Number of people who are lost with it.

        Raises:
            ImageError: If too many cannot be read.
        """
        with self._lock:
            if image not in self.errors:
                if str(error) not in self.errors.values():
                    _log.warning("Skipped: %s", error)
                self.errors[image] = str(error)
                self._lost += people
        if self._lost / self.people > self.max_share:
            lost = f"{self._lost} of {self.people} people's images cannot be read"
            raise ImageError(f"{lost}, more than the {self.max_share:.0%} allowed. The last: {error}") from None
