"""Intervals and regions of known coverage: how many σ errors reach, as measured on people the model has not seen.

A table holds, for the shares 1 % to 99 %, the factor by which σ is multiplied so that the share of the measured errors
lies within: "intervals" of single coordinates, and "regions", ellipses of both. It is the split-conformal quantile, the
⌈(n + 1) p⌉-th smallest of n: new people of the same kind lie within at least as often, whatever the errors' density is.
Source: Vovk et al., Algorithmic Learning in a Random World (2005); in this form Angelopoulos and Bates, A Gentle
Introduction to Conformal Prediction (2021), section 1.
"""

from collections.abc import Mapping, Sequence

import numpy as np

SHARES = np.arange(1, 100) / 100


def error_quantiles(errors: np.ndarray, sigmas: np.ndarray) -> dict[str, list[float]]:
    """Measures a table.

    Args:
        errors: (M, 2) array. Errors in x and y of M labelled keypoints.
        sigmas: (M, 2) array. Their σ, in the same units.

    Returns:
        dict of 99 growing floats each: `"intervals"` and `"regions"`.

    Example:

    >>> errors = np.random.default_rng(0).laplace(size=(100_000, 2))
    >>> table = error_quantiles(errors, np.ones((100_000, 2)))
    >>> round(table["intervals"][89], 1)  # −ln(1 − 0.9)
    2.3
    """
    ratios = np.abs(np.asarray(errors, np.float64)) / sigmas
    table = {}
    for name, values in (("intervals", ratios.ravel()), ("regions", np.hypot(*ratios.T))):
        ranks = np.minimum(np.ceil((len(values) + 1) * SHARES).astype(int), len(values))
        table[name] = np.sort(values)[ranks - 1].round(6).tolist()
    return table


def reach(table: Mapping[str, Sequence[float]] | None, kind: str, share: float) -> float:
    """Returns the factor of σ for a share, between two of the table's by a straight line.

    Raises:
        ValueError: If there is no table, it is damaged, or the share is not between 0.01 and 0.99.
    """
    if table is None:
        raise ValueError(
            "This model does not know how far its errors reach: `keras-regpose evaluate PRESET --recalibrated FOLDER` "
            "measures it on people of yours, as `recalibrate` does; training forgets it"
        )
    if not SHARES[0] <= share <= SHARES[-1]:
        raise ValueError(f"A share must be between 0.01 and 0.99. Received: {share}")
    factors = np.asarray(table.get(kind, ()) if isinstance(table, Mapping) else (), float)
    if factors.shape != SHARES.shape or not (np.isfinite(factors).all() and (np.diff(factors, prepend=0) >= 0).all()):
        raise ValueError(f"The model's table of {kind} is damaged: 99 growing numbers are expected")
    return float(np.interp(share, SHARES, factors))
