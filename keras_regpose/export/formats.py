"""The formats of exports, by name. Each is a module with its suffix, its precisions, its writer and its opener."""

from keras_regpose.export import litert, onnx, openvino, saved_model

FORMATS = {"onnx": onnx, "openvino": openvino, "litert": litert, "tf_saved_model": saved_model}
