"""tutelage: a language model that you host teaches a small model that you own."""

__version__ = "0.1.0"
