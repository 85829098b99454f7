"""Training losses: residual log-likelihood estimation with its flow, smooth L1, wing and soft wing."""

from keras_regpose.losses.flow import RealNVP
from keras_regpose.losses.rle import RLE, rle_terms
from keras_regpose.losses.smooth_l1 import SmoothL1, SoftWing, Wing

__all__ = ["RLE", "RealNVP", "SmoothL1", "SoftWing", "Wing", "rle_terms"]
