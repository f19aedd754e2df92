"""The one exception that speaks to the user."""


class UserError(ValueError):
    """Something the user can mend. Its message is a sentence: what was wrong, where, what would be right.

    The command line prints that sentence and nothing else; in a notebook it is an ordinary `ValueError`.
    """
