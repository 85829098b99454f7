"""Where a result was measured: kept beside every figure."""

import datetime
import importlib.metadata
import os
import platform

PACKAGES = ("keras", "tensorflow", "tensorflow-probability", "numpy", "opencv-python-headless", "pycocotools")


def environment() -> dict:
    """Returns processor, cores, Python and package versions, and the date."""
    processor = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            processor = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), processor)
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
