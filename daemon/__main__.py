"""`python -m daemon`, and the installed command."""

import gc

# Importing makes hundreds of thousands of objects that stay: looking through them, again and again, is a sixth of a
# start.
gc.disable()

from daemon.cli import main  # noqa: E402

gc.freeze()  # they are never looked at again
gc.enable()

if __name__ == "__main__":
    main()
