"""Versions for the embedded server."""

import pytest

from tests.serving.half_plus_two import write_half_plus_two


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Two versions that tell themselves apart: 1 answers 2.5, 2 answers 3.5."""
    base = tmp_path_factory.mktemp("exported")
    return {1: write_half_plus_two(base / "1"), 2: write_half_plus_two(base / "2", plus=3.0)}
