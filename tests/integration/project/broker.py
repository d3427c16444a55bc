"""The file-system broker of the example, from which no reader takes half a message."""

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "example" / "shop" / "broker.py"

Transport = runpy.run_path(str(EXAMPLE))["Transport"]
