"""Self-checks for the exercises: right, not yet attempted, or wrong and in which way."""

from duetbook.checks.verdict import Verdict, judge

__all__ = ["Verdict", "judge"]
