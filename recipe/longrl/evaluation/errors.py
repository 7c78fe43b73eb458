"""The base of this package's errors that a user can fix."""


class EvaluationError(ValueError):
    """The message has the place, the value, the problem and the fix; the command line prints it and nothing else."""
