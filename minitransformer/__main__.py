"""`python -m minitransformer` runs the course's command line; the library does not need it."""

import sys

try:
    from minitransformer.course.cli import main
except ModuleNotFoundError as error:
    if error.name != "minitransformer.course":
        raise
    sys.exit(
        "The lessons and their commands are not part of the installed package, which is the library alone. They run "
        "in a clone of the course: change to its folder, which has lessons/ in it, and run the command there."
    )

if __name__ == "__main__":
    sys.exit(main())
