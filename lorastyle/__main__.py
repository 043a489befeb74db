"""`python -m lorastyle` is the command line."""

import sys

from lorastyle.cli import main

if __name__ == "__main__":
    sys.exit(main())
