"""What a judge says of labels."""

from dataclasses import dataclass

import numpy as np

from keras_regpose.data.people import People

KINDS = ("sides swapped", "another person", "another keypoint's place", "misplaced")
SWAPPED, ANOTHER, ELSEWHERE, MISPLACED = KINDS


@dataclass(frozen=True, eq=False)
class LabelJudgement:
    """How likely the labels of N people are wrong.

    Args:
        positions: (N,) int array. Which of the samples they are of.
        scores: (N,) float array. Logarithm of how many times likelier it is that something is wrong than that nothing
            is, were every second label wrong.
        kinds: (N,) array of str, of `KINDS`. What is likeliest to be wrong.
        keypoint_scores: (N, K) float array. The same of the keypoint alone being wrong; −inf for unlabelled ones.
        expected: (N, K, 2) float array. Where the keypoints are expected, in pixels of the image.
    """

    positions: np.ndarray
    scores: np.ndarray
    kinds: np.ndarray
    keypoint_scores: np.ndarray
    expected: np.ndarray

    def suspects(self, people: People, count: int = 100) -> list[dict]:
        """Returns the people whose labels are the least likely, the worst first.

        Args:
            people: `People`, those that were judged.
            count: int. Number of people.

        Returns:
            list of JSON-ready dicts: `position` among the people, `picture`, `annotation_id`, `kind`, `keypoints`
            (the names of those that are suspected), `score`, and `expected`: K pairs x, y in pixels.
        """
        rows = []
        for i in np.argsort(-self.scores, kind="stable")[:count].tolist():
            sample, names = people[int(self.positions[i])], people.skeleton.keypoints
            suspected = [name for name, flag in zip(names, sample.visible, strict=True) if flag > 0]
            if self.kinds[i] == SWAPPED:
                paired = sum(people.skeleton.flip_pairs, ())
                suspected = [name for name in suspected if name in paired]
            elif self.kinds[i] != ANOTHER:
                suspected = [names[int(self.keypoint_scores[i].argmax())]]
            picture = sample.image if isinstance(sample.image, str) else f"image {sample.image_id}"
            row = {"position": int(self.positions[i]), "picture": picture, "annotation_id": int(sample.id)}
            row |= {"kind": str(self.kinds[i]), "keypoints": suspected, "score": round(float(self.scores[i]), 2)}
            rows.append(row | {"expected": np.round(self.expected[i], 1).tolist()})
        return rows
