"""``python -m diffspeaker_client`` is ``diffspeaker-client``."""

import sys

from diffspeaker_client.cli.main import main

sys.exit(main())
