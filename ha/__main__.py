"""`python -m ha`, the same as `sofia-node`."""

import sys

from ha.entry import main

sys.exit(main())
