"""The version, on its own so that a build can read it without loading Keras."""

__version__ = "0.1.0"
