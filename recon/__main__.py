"""`python -m recon` is the command `recon`."""

import sys

from recon.cli import main

sys.exit(main())
