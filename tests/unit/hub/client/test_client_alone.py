"""The client needs nothing of the server: not its packages, not its modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
ALONE = """
import sys

ALLOWED = {"websockets", "hub"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ALLOWED:
            return None
        raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Blocker())
import hub.client
ours = sorted(name for name in sys.modules if name.partition(".")[0] in ("hub", "streams", "projections"))
assert all(name == "hub" or name.startswith("hub.client") for name in ours), ours
hub.client.HubClient("http://127.0.0.1:1", "t")
print(len(ours))
"""


@pytest.mark.slow
def test_it_imports_with_nothing_but_websockets():
    """With every package but `websockets` blocked, the client imports, and brings in no module of the server."""
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 10
