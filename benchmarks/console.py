"""The drawing in a real browser: 2,000 flows redrawn, and frames while pointing; checks that all of them are drawn.

Run: ``python -m benchmarks.console``. Prints machine, input and figures; needs chromium and the built page.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.console.serving import TOKEN, Scene, serve

WEB = Path(__file__).parents[1] / "console" / "web"


def main() -> None:
    """Measure once and print."""
    with TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        scene.fill(int(time.time()), windows=4)
        with serve(scene.app()) as address:
            done = subprocess.run(
                ["node", "lab/draw.mjs", f"{address}/?token={TOKEN}"],  # node from the PATH, as npm does
                cwd=WEB, capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    figures = json.loads(done.stdout)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}: {json.dumps(figures)}")


if __name__ == "__main__":
    main()
