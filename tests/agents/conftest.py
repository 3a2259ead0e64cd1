"""Makes the synthetic landscape importable for the tests of the search."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
