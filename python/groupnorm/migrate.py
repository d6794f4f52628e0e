"""The command `python -m groupnorm.migrate OLD NEW`, and the function by its name."""

from __future__ import annotations

import sys

from groupnorm._migration import migrate
from groupnorm._migration._command import main

if __name__ == "__main__":
    sys.exit(main())

# `groupnorm.migrate` is the function. Importing this file by its name would put the
# module in the function's place, so it hands that place over: what an import binds is
# what then stands here.
sys.modules[__name__] = migrate  # type: ignore[assignment]
