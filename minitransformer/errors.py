"""The one exception that speaks to the user."""


class UserError(ValueError):
    """Something the user can mend. Its message is a sentence: what was wrong, where, what would be right.

    Where a docstring of the library says that a function refuses something, it raises this. The command line prints the
    sentence and nothing else; in a notebook it is an ordinary `ValueError`.
    """
