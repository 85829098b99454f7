"""Write a model as a file that runs without Keras, several times faster, and compare the two."""

from keras_regpose.commands.shared import add_data_options, annotated, open_samples, positive

EXAMPLE = "keras-regpose export my_preset pose.xml --precision int8 --annotations mine.json --images pictures"


def add_options(sub):
    sub.add_argument("preset", help="name or directory of a preset")
    sub.add_argument("output", help="pose.onnx, pose.xml (OpenVINO), pose.tflite (LiteRT), or pose (a TF SavedModel)")
    what = "bfloat16: OpenVINO; float16: ONNX, LiteRT; int8: all but TF SavedModel, with people to calibrate on"
    sub.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16", "int8"), help=what)
    add_data_options(sub)
    sub.add_argument("--people", type=positive, default=128, help="so many of them calibrate int8 and are compared on")


def run(options):
    from keras_regpose.export import calibration_crops
    from keras_regpose.presets import from_preset

    model = from_preset(options.preset)
    calibration = None
    if annotated(options) or options.dataset is not None:
        samples = open_samples(options, "train")
        calibration = calibration_crops(samples, model.input_size, options.people)
    elif options.precision == "int8":
        raise ValueError("int8 is calibrated on people: give --annotations and --images, or --dataset and --data")
    deviation = model.export(
        options.output, precision=options.precision, calibration=calibration, verbose=False, preset=options.preset
    )
    print(f"{options.output}: {deviation}")
