"""How busy the machine is: other workers and other people use it too."""

import os


def busy() -> float:
    """How many times as long things may take now as on a machine with nothing else to do."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
