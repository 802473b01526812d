"""Lets ``python -m perception_nodes.cli`` stand in for ``perception``."""

import sys

from perception_nodes.cli.main import main

sys.exit(main())
