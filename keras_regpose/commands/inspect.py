"""Say what an annotation file holds and, with a preset, which of its labels look wrong: one HTML file, JSON and CSV."""

from pathlib import Path

from keras_regpose.commands.shared import add_annotation_options, annotated, import_keras_silently, positive

EXAMPLE = "keras-regpose inspect --annotations people.json --images pictures --preset mobilenetv2_rle_people"


def add_options(sub):
    add_annotation_options(sub)
    sub.add_argument("--preset", help="name or directory of a preset, with whose features labels are judged")
    sub.add_argument("--suspects", type=positive, default=100, help="number of people to show whose labels look wrong")
    sub.add_argument("--output", default="report", help="folder for report.html, report.json and labels.csv")


def run(options):
    from keras_regpose.data.coco import Coco
    from keras_regpose.files import spare
    from keras_regpose.inspection.report import REPORT, write_report

    if not annotated(options):
        raise ValueError("Say whose labels: --annotations FILE --images DIR")
    spare(*(Path(options.output, name) for name in REPORT), overwrite=options.overwrite)
    people = Coco(options.annotations, options.images, category=options.category)
    judgement, size = None, (256, 192)
    if options.preset:
        if not options.debug:
            import_keras_silently()
        from keras_regpose.inspection.judge import judge_labels
        from keras_regpose.presets import from_preset

        model = from_preset(options.preset)
        judgement = judge_labels(people, model)
        size = model.input_size
    name = Path(options.annotations).name
    numbers = write_report(
        people, options.output, judgement, size, suspects=options.suspects, title=name, overwrite=True
    )
    print(f"{numbers['people']} people in {numbers['pictures']} pictures; {numbers['left_out']['count']} left out")
    for name, found in numbers.items():
        if isinstance(found, dict) and found.get("count") and name != "left_out":
            print(f"{found['count']:>8} {name.replace('_', ' ')}")
    print(f"The report is {Path(options.output) / 'report.html'}")
