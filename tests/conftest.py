"""Fixtures every test file may use."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_datasets() -> Path:
    """The real logs beside the checkout; a test that needs them skips where they are absent."""
    folder = ROOT.parent / "shared" / "datasets"
    if not folder.is_dir():
        pytest.skip("the real data sets are not beside this checkout (../shared/datasets)")
    return folder
