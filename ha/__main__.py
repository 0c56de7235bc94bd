"""`python -m ha`, the same as `sofia-node`."""

import sys

from ha.cli import main

sys.exit(main())
