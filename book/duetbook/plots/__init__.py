"""Figures: one style for all, one function for each figure, one module for each chapter."""

from duetbook.style import COLORS, METHOD_STYLE, use_style

__all__ = ["COLORS", "METHOD_STYLE", "use_style"]
