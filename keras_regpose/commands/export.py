"""Write a model as a file that runs without Keras, several times faster, and compare the two."""

from keras_regpose.commands.shared import positive
from keras_regpose.datasets import DATASETS, open_dataset

EXAMPLE = "keras-regpose export my_preset pose.xml --precision int8 --dataset coco --data ~/coco"


def add_options(sub):
    sub.add_argument("preset", help="name or directory of a preset")
    sub.add_argument(
        "output", help="pose.onnx, pose.xml (OpenVINO), pose.tflite (LiteRT), or pose (folder of a TF SavedModel)"
    )
    sub.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16", "float16", "int8"),
        help="bfloat16: OpenVINO; float16: ONNX, LiteRT; int8: all but TF SavedModel, with --dataset",
    )
    sub.add_argument("--dataset", choices=DATASETS, help="people to compare on, and to calibrate int8 on")
    sub.add_argument("--data", help="folder of the dataset")
    sub.add_argument("--people", type=positive, default=128, help="number of people to take from the dataset")


def run(options):
    from keras_regpose.export import calibration_crops
    from keras_regpose.presets import from_preset

    model = from_preset(options.preset)
    calibration = None
    if options.dataset is not None:
        samples = open_dataset(options.dataset, options.data, "train", count=options.people)
        calibration = calibration_crops(samples, model.input_size, options.people)
    elif options.precision == "int8":
        raise ValueError("int8 is calibrated on people: name some with --dataset and --data")
    deviation = model.export(
        options.output, precision=options.precision, calibration=calibration, verbose=False, preset=options.preset
    )
    print(f"{options.output}: {deviation}")
