"""Where the real slides and labels lie that some tests read; never part of the project."""

import os
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("GIGASSL_SHARED") or REPO_ROOT.parent / "shared")

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"real test data not found at {SHARED}; set GIGASSL_SHARED"
)
