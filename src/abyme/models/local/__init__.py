"""Models that need no key: weights on this machine, served by llama.cpp in a child process."""

from abyme.models.local.server import LocalModel
from abyme.models.local.weights import WEIGHTS, Weights, find, pull

__all__ = ["WEIGHTS", "LocalModel", "Weights", "find", "pull"]
