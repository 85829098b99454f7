"""`keras-regpose zoo`: builds the presets of the zoo, and writes its cards."""

from pathlib import Path

from keras_regpose.commands.shared import add_command


def add(command):
    """Adds the command to the parser."""
    sub = command(
        "zoo",
        None,
        "Build, check, evaluate and publish the zoo's presets; write its cards.",
        "keras-regpose zoo build --coco ~/coco --mpii ~/mpii --output presets --publish me",
    )
    actions = sub.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = add_command(
        actions,
        "build",
        build_presets,
        "Make presets of the official checkpoints, check and evaluate them, write results and cards, publish them. "
        "Goes on where it was stopped.",
        "keras-regpose zoo build --presets resnet50_rle_coco --coco ~/coco --output presets",
    )
    build.add_argument("--presets", nargs="+", metavar="NAME", help="rows to build; all if left out")
    build.add_argument("--output", required=True, help="folder for the presets, one folder each")
    build.add_argument("--coco", help="folder of COCO 2017, to evaluate its rows on val2017")
    build.add_argument(
        "--detections",
        help="person detections of val2017; default: person_detection_results/ in the folder of COCO, if it is there",
    )
    build.add_argument("--mpii", help="folder of MPII, to evaluate its rows on its validation split")
    build.add_argument("--publish", metavar="ORG", help="publish each as ORG/NAME on the Hugging Face Hub")
    build.add_argument("--private", action="store_true", help="make new repositories visible to their owners only")
    cards = add_command(
        actions,
        "cards",
        write_cards,
        "In a clone: write the result files, cards and the README's table of the zoo anew, from benchmarks/results, "
        "the recipes and the table of presets.",
        "keras-regpose zoo cards --results presets",
    )
    cards.add_argument("--results", help="folder of `zoo build`, whose evaluations are taken over")


def build_presets(options):
    from keras_regpose.hub.build import build_zoo

    failed = build_zoo(
        options.output,
        names=options.presets,
        coco=options.coco,
        detections=options.detections,
        mpii=options.mpii,
        organisation=options.publish,
        private=options.private,
    )
    return 1 if failed else 0


def write_cards(options):
    from keras_regpose.hub.zoo_files import zoo_folder
    from keras_regpose.hub.zoo_texts import write_zoo

    clone = zoo_folder().parent
    if not (clone / "benchmarks").is_dir():
        raise ValueError("the zoo's cards are written in a clone of the project, and this is an installed package")
    _draw_pictures(zoo_folder() / "pictures")
    changed = write_zoo(clone, Path(options.results) if options.results else None)
    for path in changed:
        print(path.relative_to(clone))
    print(f"{len(changed)} files have changed")


def _draw_pictures(folder):
    """Draws a person with the keypoints of each of this package's skeletons, where there is no picture yet."""
    from PIL import Image

    from keras_regpose.data import Synthetic
    from keras_regpose.inference.draw import draw_poses
    from keras_regpose.skeleton import SKELETONS

    folder.mkdir(exist_ok=True)
    for name, skeleton in SKELETONS.items():
        if not (folder / f"{name}.jpg").is_file():
            person = Synthetic(1, seed=3, image_size=(400, 480), people_per_image=1, skeleton=skeleton)[0]
            picture = draw_poses(person.image, person.keypoints[None], skeleton=skeleton)
            Image.fromarray(picture).save(folder / f"{name}.jpg", quality=88)
