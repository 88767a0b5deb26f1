"""Other ways to choose types: a trained float Keras model in, a model of our quantised layers out.

Nothing here imports Keras; a method's module is imported when it is asked for.
"""

from hgq.methods.listed import METHODS, Method

__all__ = ["METHODS", "Method"]
