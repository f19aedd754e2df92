"""The read-along book: the lessons as pages, from what a run of them has printed, and a GPT that runs in the page.

`page/` holds what the browser gets (scripts and styles), the modules here build the pages around it. Nothing of the
course needs the book: it has an extra of its own in pyproject.toml, and a newer Python than the lessons.
"""
