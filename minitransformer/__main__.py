"""`python -m minitransformer` runs the course's command line; the library does not need it."""

import sys

from minitransformer.course.cli import main

if __name__ == "__main__":
    sys.exit(main())
