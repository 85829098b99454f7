"""Training losses: residual log-likelihood estimation with its flow, and smooth L1."""

from keras_regpose.losses.flow import RealNVP
from keras_regpose.losses.rle import RLE, rle_terms
from keras_regpose.losses.smooth_l1 import SmoothL1

__all__ = ["RLE", "RealNVP", "SmoothL1", "rle_terms"]
