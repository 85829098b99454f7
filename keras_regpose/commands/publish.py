"""Publish a preset on the Hugging Face Hub, with a model card: one commit, with a tag."""

from pathlib import Path

EXAMPLE = "keras-regpose publish runs/coco/best me/my_pose_model --dry-run"


def add_options(sub):
    sub.add_argument("preset", help="preset directory, as train, convert and save_to_preset write it")
    sub.add_argument("repository", metavar="org/name", help="made where there is none")
    sub.add_argument("--private", action="store_true", help="make a new repository visible to its owners only")
    sub.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    sub.add_argument("--license", help="the Hub's name of the licence, such as apache-2.0, for the card that is made")
    sub.add_argument("--tag", help="name of this version; the next free of v1, v2, … if left out")
    sub.add_argument("--replace", action="store_true", help="replace a model of another skeleton, or what is no preset")


def run(options):
    from keras_regpose.hub.publish import publish_preset

    settings = {name: getattr(options, name) for name in ("private", "tag", "replace", "dry_run")}
    publication = publish_preset(options.preset, options.repository, license_name=options.license, **settings)
    print(publication)
    if options.dry_run:
        card = Path(options.preset) / "README.md"
        print(f"The card is {card}" if card.is_file() else f"The card is made; write one to {card} to send that")
    if publication.commit:
        print(f'Load it with keras_regpose.from_preset("{publication.address}")')
