"""Progress bars, and the one switch that silences them."""

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tqdm

_shown = True
_bars = weakref.WeakSet()


def set_progress(shown: bool) -> None:
    """Says whether progress bars are shown from now on: those of training, of downloads and of the command line.

    Messages are another matter: they go to the logger "keras_regpose" of Python's `logging`.

    Args:
        shown: bool.

    Example:

    >>> import keras_regpose as rp
    >>> rp.set_progress(False)  # from here on, training and downloads are silent
    >>> rp.set_progress(True)
    """
    global _shown
    _shown = bool(shown)


def progress_shown() -> bool:
    """Returns whether progress bars are shown; see `set_progress`."""
    return _shown


def progress_bar(**options) -> "tqdm.tqdm":
    """Returns a progress bar, which shows nothing after `set_progress(False)`.

    Args:
        **options: See `tqdm.tqdm`.
    """
    from tqdm import tqdm

    bar = tqdm(**options) if _shown else tqdm(**{**options, "disable": True})
    _bars.add(bar)
    return bar


def clear_bars() -> None:
    """Wipes the bars from the terminal, so that a line can be printed there. They come back as they move on."""
    for bar in _bars:
        bar.clear()
