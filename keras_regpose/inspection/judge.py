"""Which labels are wrong? People and keypoints, ranked by how much likelier it is that a label is wrong than right.

Two networks look at frozen features and at labels, each fitted per fold on the labels of the others (cross-fitting):

1. A head gives the density of each keypoint over the crop, from the picture alone.
2. A judge sees how likely the density finds a label, as it is and with its sides exchanged, and by how many σ the
   network's own output differs from it. It learns to tell labels from labels that are spoilt for it, in each of the
   ways of `KINDS`: its output is the logarithm of how many times likelier each of them is than the label as it is
   (Gutmann and Hyvärinen, "Noise-contrastive estimation", AISTATS 2010).

It learns from as many wrong labels as right ones. How common each kind really is among the labels that are judged is
estimated from what it says of them all (`priors`): in one set sides are often exchanged, in another single keypoints.

The kinds are those of Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV
2017. A label that is wrong already teaches the judge that such labels are right; a few among hundreds do not matter.
"""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_regpose import geometry
from keras_regpose.data.people import People, Subset
from keras_regpose.data.sample import Sample
from keras_regpose.inspection.features import CropFeatures, crop_features
from keras_regpose.inspection.judgement import ELSEWHERE, KINDS, MISPLACED, LabelJudgement
from keras_regpose.progress import progress_bar
from keras_regpose.skeleton import matched_keypoints

_PART = 5000  # people who are judged together; the features of more would not fit into memory
_HEAD_BATCH, _BATCH = 32, 64
_UNITS = 64  # of the head
_SAME_PLACE = 0.02  # distance of two keypoints at one place, in units of the crop
_HARDLY_MOVED = 0.04  # a spoilt label counts as right if no keypoint has moved farther
_MOVES = 0.05, 0.4  # how far a keypoint is moved to spoil a label
_NO_DENSITY = -12.0  # logarithm below which cells are equally unlikely
_LEARNED = np.array([1 / 2, 1 / 8, 1 / 8, 1 / 4])  # shares of right labels and of the wrong ones that `spoilt` makes


def judge_labels(
    samples: Sequence[Sample],
    model,
    folds: int = 5,
    head_steps: int = 600,
    steps: int = 1000,
    seed: int = 0,
    features: CropFeatures | None = None,
) -> LabelJudgement:
    """Says which labels are wrong. No network judges a label that it has learned from.

    Args:
        samples: `People`, or a list of `Sample` with the keypoints of the model; some hundreds at least.
        model: `PoseRegressor` whose backbone has not learned these labels. Where its own keypoints have the names of
            those of the samples, its predictions are used, too.
        folds: int. Into how many parts the people are split, by picture.
        head_steps: int. Batches that each head learns from.
        steps: int. Batches that each judge learns from.
        seed: int. Seeds folds, weights and batches.
        features: `CropFeatures` of these people, or None to compute them.

    Returns:
        `LabelJudgement`, for the people whose pictures could be read.

    Raises:
        ValueError: If there are fewer than ten people per fold.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> judgement = judge_labels(rp.data.Synthetic(40, seed=0), model, folds=2, head_steps=2, steps=2)
    >>> judgement.scores.shape, judgement.expected.shape
    ((40,), (40, 17, 2))
    """
    people = samples if isinstance(samples, People) else People.of(samples, model.skeleton)
    if folds < 2 or len(people) < 10 * folds:
        raise ValueError(
            f"Judging labels takes at least 2 folds, and 10 people for each. Received: {len(people)} people, {folds} "
            "folds"
        )
    parts = np.array_split(np.arange(len(people)), 1 if features else -(-len(people) // _PART))
    made = []
    with progress_bar(total=len(people) + len(parts) * folds * (head_steps + steps), unit=" steps", delay=2) as bar:
        for part in parts:
            seen = features or crop_features(model, Subset(people, part), bar.update)
            positions = part[seen.positions]
            judge = _Judge(Subset(people, positions), model.input_size, seen, folds, seed, bar.update)
            judge.fit_heads(head_steps)
            made.append(judge.judgement(judge.fit_judges(steps), positions))
    fields = dataclasses.fields(LabelJudgement)
    return LabelJudgement(*(np.concatenate([getattr(one, field.name) for one in made]) for field in fields))


class _Judge:
    """The networks of all folds. Coordinates are in units of the crop's longer side, from its centre.

    Arrays of people have two views, the crop and its mirror image, unless they are said to be of one.
    """

    def __init__(self, people, input_size, features, folds, seed, progress):
        self.skeleton, self.seed, self.progress = people.skeleton, seed, progress
        self.mirrored = people.skeleton.flip_permutation
        center, scale = geometry.box_to_center_scale(np.array(people.field("box")))
        self.center, self.size = center, geometry.fix_aspect_ratio(scale, input_size).max(1)
        self.visible = self.both_views(np.array(people.field("visible")) > 0)
        points = (np.array(people.field("keypoints")) - center[:, None]) / self.size[:, None, None]
        self.points = self.both_views(np.where(self.visible[:, 0, :, None], points, 0).astype(np.float32))
        # People of one picture come together, so that hardly any are judged by what was learned from that picture.
        generator, numbers = np.random.default_rng(seed), people.photographs
        order = np.argsort(generator.permutation(numbers.max() + 1)[numbers], kind="stable")
        self.folds = [np.sort(part) for part in np.array_split(order, folds)]
        # A keypoint of the mirrored crop goes by the name that it has there, as the network's own output does.
        flat = features.outputs.reshape(*features.outputs.shape[:2], -1)
        outputs = ((flat - flat.mean((0, 1))) / (flat.std((0, 1)) + 1e-3)).astype(np.float32)
        self.inputs = *features.maps, outputs
        self.sides = np.array(input_size[::-1], np.float32) / max(input_size)
        self.own, self.own_log_sigma = np.zeros_like(self.points), np.zeros(self.visible.shape, np.float32)
        self.matched = np.zeros(len(self.skeleton), np.float32)
        for ours, theirs in matched_keypoints(self.skeleton.keypoints, features.skeleton.keypoints).items():
            found = features.outputs[:, :, theirs]
            self.own[:, :, ours], self.matched[ours] = (found[..., :2] - 0.5) * self.sides, 1
            if found.shape[-1] == 4:
                self.own_log_sigma[:, :, ours] = np.log(found[..., 2:]).mean(-1)

    def both_views(self, values):
        """(N, K) or (N, K, 2) of the crop → (N, 2, K) or (N, 2, K, 2)."""
        mirror = values[:, self.mirrored]
        return np.stack([values, mirror * np.array([-1, 1], np.float32) if mirror.ndim == 3 else mirror], 1)

    def cross_fitted(self, network, loss, draw, look, steps, rate):
        """Fits a network for each fold on the others, and returns what it says of the people of the fold.

        Args:
            draw: callable. Generator, positions of people → inputs and targets of a batch of them.
            look: callable. Positions of people, view → inputs.
        """
        optimizer = keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(rate, steps), weight_decay=0.01, global_clipnorm=5.0
        )
        optimizer.build(network.trainable_variables)
        network.compile(optimizer, loss)
        start = [(variable, np.array(variable)) for variable in (*network.variables, *optimizer.variables)]
        step = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: self.progress(1))
        found = np.empty((*self.visible.shape[:2], *network.output.shape[1:]), np.float16)
        for fold, held_out in enumerate(self.folds):
            others = np.setdiff1d(np.arange(len(self.points)), held_out)
            for variable, value in start:
                variable.assign(value)
            generators = map(np.random.default_rng, ((self.seed, fold, number) for number in range(steps)))
            batches = (draw(generator, others) for generator in generators)
            network.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[step])
            for view in range(2):
                found[held_out, view] = network.predict(look(held_out, view), batch_size=128, verbose=0)
        return found

    def fit_heads(self, steps):
        """Gives each person the logarithms of the densities of the keypoints, (N, 2, K, h, w), from the picture."""
        keras.utils.set_random_seed(self.seed)
        network = head_network([one.shape[2:] for one in self.inputs], len(self.skeleton))
        grid = network.output.shape[2:]

        def look(who, view):
            return tuple(one[who, view].astype(np.float32) for one in self.inputs)

        def draw(generator, others):
            who, view = generator.choice(others, _HEAD_BATCH), generator.integers(2, size=_HEAD_BATCH)
            cells = cells_of(self.points[who, view], self.sides, grid)
            return look(who, view), cells * self.visible[who, view, :, None, None]

        def loss(target, log_density):
            return -ops.sum(target * log_density) / ops.maximum(ops.sum(target), 1.0)

        self.heat = self.cross_fitted(network, loss, draw, look, steps, 2e-3)

    def evidence(self, who, view, points, visible):
        """Returns what a judge sees of the labels (B, K, 2) of some people: (B, F)."""
        heat, own = self.heat[who, view].astype(np.float32), self.own[who, view]
        sigma = np.exp(self.own_log_sigma[who, view])
        seen = [3 * points * visible[..., None], visible, 3 * own, self.own_log_sigma[who, view] + 2]
        for label, shown in ((points, visible), (points[:, self.mirrored], visible[:, self.mirrored])):
            errors = np.where(shown[..., None], label - own, 0) * self.matched[:, None] / sigma[..., None]
            likely = (heat * cells_of(label, self.sides, heat.shape[2:])).sum((2, 3))
            likely = np.where(shown, np.maximum(likely, _NO_DENSITY), _NO_DENSITY / 2) / 3 + 1
            distance = np.abs(errors).sum(-1)
            each = distance, np.log1p(distance), likely * shown
            means = [one.sum(1, keepdims=True) / np.maximum(shown.sum(1, keepdims=True), 1) for one in each]
            seen += [np.arcsinh(errors), np.log1p(distance), likely, *means]
        seen.append(np.log(self.nearest(points, visible) + 0.005) / 2)
        return np.concatenate([one.reshape(len(points), -1) for one in seen], 1, dtype=np.float32)

    def nearest(self, points, visible):
        """Returns the (B, K) distances to the nearest other keypoint of the person, 1 where there is none."""
        apart = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
        both = visible[:, :, None] & visible[:, None] & ~np.eye(len(self.skeleton), dtype=bool)
        return np.where(both, apart, 1).min(-1)

    def fit_judges(self, steps):
        """Returns the (N, 2, 3 + K) logarithms of how likely a label is right, or wrong as `spoilt` counts it."""

        def look(who, view):
            return self.evidence(who, view, self.points[who, view], self.visible[who, view])

        keras.utils.set_random_seed(self.seed)
        inputs = x = keras.Input(look(np.zeros(1, int), 0).shape[1:])
        for _ in range(2):
            x = keras.layers.Dropout(0.2)(keras.layers.Dense(256, "gelu", kernel_initializer="he_normal")(x))
        small = keras.initializers.RandomNormal(stddev=0.01)
        x = keras.layers.Concatenate()([x, inputs])
        logits = keras.layers.Dense(3 + len(self.skeleton), kernel_initializer=small)(x)

        def draw(generator, others):
            (who, another), view = generator.choice(others, (2, _BATCH)), generator.integers(2, size=_BATCH)
            label, other = ((self.points[one, view], self.visible[one, view]) for one in (who, another))
            points, visible, wrong = spoilt(generator, *label, *other, self.mirrored)
            return self.evidence(who, view, points + generator.normal(0, 0.01, points.shape), visible), wrong

        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return self.cross_fitted(keras.Model(inputs, logits), loss, draw, look, steps, 1e-3)

    def judgement(self, logits, positions):
        """Reads the likelihoods of both views of each person as what is the likeliest to be wrong."""
        classes = np.concatenate([np.arange(3), 3 + self.mirrored])
        logits = (logits[:, 0].astype(np.float32) + logits[:, 1][:, classes]) / 2
        points, visible, rows = self.points[:, 0], self.visible[:, 0], np.arange(len(logits))
        wrong = logits[:, 1:] - logits[:, :1]
        wrong[:, 2:][~visible] = -np.inf
        wrong += np.repeat(priors(by_kind(wrong)), (1, 1, len(self.skeleton)))
        kinds = by_kind(wrong).argmax(1)
        worst = wrong[:, 2:].argmax(1)
        at_another = self.nearest(points, visible)[rows, worst] < _SAME_PLACE
        names = np.where(at_another, ELSEWHERE, MISPLACED)
        names = np.where(kinds == 2, names, np.array(KINDS)[kinds])
        # The densities of both views together say where keypoints are expected; where a single one or the sides are
        # suspected, the rest of the label stands.
        expected = places_of(self.heat[:, 0] + self.heat[:, 1][:, self.mirrored, :, ::-1], self.sides)
        expected[kinds == 0] = points[kinds == 0][:, self.mirrored]
        given = (kinds == 2)[:, None] & (np.arange(len(self.skeleton)) != worst[:, None]) & visible
        expected = np.where(given[..., None], points, expected) * self.size[:, None, None] + self.center[:, None]
        return LabelJudgement(positions, np.logaddexp.reduce(wrong, 1), names, wrong[:, 2:], expected)


def by_kind(wrong: np.ndarray) -> np.ndarray:
    """(N, 2 + K) logarithms of sides, another person and each keypoint → (N, 3), of any keypoint as the last."""
    return np.column_stack([wrong[:, :2], np.logaddexp.reduce(wrong[:, 2:], 1)])


def priors(wrong: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Estimates how common wrong labels are, from what a judge says that has learned from many.

    Expectation maximisation over the shares, after Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a
    Classifier to New a Priori Probabilities", Neural Computation 2002, section 2.2. No kind gets less than the share
    of one label.

    Args:
        wrong: (N, 3) array. Logarithms of how many times likelier each kind is than that the label is right, under
            the shares of `spoilt`.
        rounds: int.

    Returns:
        (3,) array to add to them, which makes them those under the shares that were estimated.

    Example:

    >>> priors(np.array([[-9.0, -9.0, -9.0]] * 99 + [[9.0, -9.0, -9.0]])).round(1).tolist()
    [-3.2, -3.2, -3.9]
    """
    odds = np.column_stack([np.zeros(len(wrong)), wrong])
    shares = _LEARNED
    for _ in range(rounds):
        likely = odds + np.log(shares / _LEARNED)
        shares = np.exp(likely - np.logaddexp.reduce(likely, 1, keepdims=True)).mean(0)
        shares = np.maximum(shares, 1 / len(wrong))
    shift = np.log(shares / _LEARNED)
    return (shift - shift[0])[1:]


def head_network(shapes: Sequence[tuple[int, ...]], count: int) -> keras.Model:
    """Builds the head: feature maps, the finest first, and the network's own output → (B, K, h, w) log densities.

    A pyramid of features (Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017), whose coarsest level
    knows the whole crop.

    Args:
        shapes: 3 shapes (h, w, C) of maps, and that of the network's own output.
        count: int. Number of keypoints K.
    """
    layers, inputs = keras.layers, [keras.Input(shape) for shape in shapes]
    *maps, outputs = inputs
    *finer, x = (layers.Conv2D(_UNITS, 1)(layers.SpatialDropout2D(0.15)(one)) for one in maps)
    x = layers.Activation("gelu")(x)
    whole = layers.Flatten()(layers.Conv2D(_UNITS // 2, 1, activation="gelu")(x))
    whole = layers.Dropout(0.3)(layers.Concatenate()([whole, outputs]))
    whole = layers.Dropout(0.3)(layers.Dense(2 * _UNITS, activation="gelu")(whole))
    coarse = layers.Reshape((*x.shape[1:3], count))(layers.Dense(count * x.shape[1] * x.shape[2])(whole))
    x = x + layers.Reshape((1, 1, _UNITS))(layers.Dense(_UNITS)(whole))
    for level in reversed(finer):
        x = layers.Activation("gelu")(layers.Resizing(*level.shape[1:3])(x) + level)
        x = layers.Conv2D(_UNITS, 3, padding="same", activation="gelu")(x)
    height, width = x.shape[1:3]
    logits = layers.Conv2D(count, 1)(x) + layers.Resizing(height, width)(coarse)
    logits = ops.log_softmax(layers.Reshape((height * width, count))(logits), axis=1)
    return keras.Model(inputs, layers.Reshape((count, height, width))(ops.transpose(logits, (0, 2, 1))))


def cells_of(points: np.ndarray, sides: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Spreads points over the four cells of the crop nearest to each.

    Args:
        points: (B, K, 2) array, in units of the crop's longer side from its centre. What is outside counts as on the
            border.
        sides: (2,) array. Width and height of the crop in these units.
        grid: (h, w). Number of cells.

    Returns:
        (B, K, h, w) float32 array, whose sum is 1 for each point.

    Example:

    >>> cells_of(np.zeros((1, 1, 2)), np.ones(2), (2, 2)).tolist()
    [[[[0.25, 0.25], [0.25, 0.25]]]]
    """
    counts = np.array(grid[::-1], np.float32)
    place = np.clip((points / sides + 0.5) * counts - 0.5, 0, counts - 1).astype(np.float32)
    x, y = (
        np.maximum(1 - np.abs(place[..., axis, None] - np.arange(counts[axis], dtype=np.float32)), 0)
        for axis in range(2)
    )
    return y[..., :, None] * x[..., None, :]


def places_of(log_density: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Returns where densities have their largest cell: the mean over it and its neighbours.

    Args:
        log_density: (B, K, h, w) array.
        sides: (2,) array. Width and height of the crop.

    Returns:
        (B, K, 2) float32 array, as the points of `cells_of`.

    Example:

    >>> points = np.array([[[0.1, -0.2]]])
    >>> places_of(np.log(cells_of(points, np.ones(2), (8, 8)) + 1e-9), np.ones(2)).round(3).tolist()
    [[[0.10000000149011612, -0.20000000298023224]]]
    """
    height, width = log_density.shape[2:]
    flat = log_density.reshape(*log_density.shape[:2], -1).astype(np.float32)
    row, column = np.divmod(np.arange(height * width), width)
    best = flat.argmax(-1)[..., None]
    near = (np.abs(row - row[best]) <= 1) & (np.abs(column - column[best]) <= 1)
    weight = np.where(near, np.exp(flat - flat.max(-1, keepdims=True)), 0)
    cells = np.stack([(column + 0.5) / width, (row + 0.5) / height], -1) - 0.5
    return (weight @ cells / weight.sum(-1, keepdims=True) * sides).astype(np.float32)


def spoilt(generator, points, visible, others, others_visible, mirrored):
    """Spoils about every second label.

    Args:
        generator: NumPy generator.
        points, visible: (B, K, 2) array in units of the crop, (B, K) bool array. The labels.
        others, others_visible: the same of other people.
        mirrored: (K,) int array. The other side of each keypoint.

    Returns:
        (B, K, 2) points, (B, K) visible, and (B,) int array of what is wrong: 0 for nothing, 1 for the sides, 2 for
        another person's label, 3 + k for keypoint k.
    """
    count, keypoints = visible.shape
    kind, rows = generator.integers(4, size=count), np.arange(count)
    # One labelled keypoint of each, and another one.
    order = np.argsort(np.where(visible, generator.random(visible.shape), 2), axis=1)
    one = np.arange(keypoints) == order[:, :1]
    angle, length = generator.uniform(0, 2 * np.pi, count), np.exp(generator.uniform(*np.log(_MOVES), count))
    moved = points[rows, order[:, 0]] + length[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    place = np.where((kind == 2)[:, None], points[rows, order[:, min(1, keypoints - 1)]], moved)
    new = np.where(one[..., None], place[:, None], points)
    new = np.select([(kind == 0)[:, None, None], (kind == 1)[:, None, None]], [points[:, mirrored], others], new)
    shown = np.select([(kind == 0)[:, None], (kind == 1)[:, None]], [visible[:, mirrored], others_visible], visible)
    farthest = (np.linalg.norm(new - points, axis=-1) * (shown & visible)).max(1)
    changed = (generator.random(count) < 0.5) & ((farthest > _HARDLY_MOVED) | (shown != visible).any(1))
    wrong = np.where(changed, np.where(kind < 2, kind + 1, 3 + order[:, 0]), 0)
    return np.where(changed[:, None, None], new, points), np.where(changed[:, None], shown, visible), wrong
