"""What the extension's tests share."""

from __future__ import annotations

import pytest

import build
from tests.extension.matrix import Material, prepare_material


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """The zip, a short recording and the clip that the backend makes of it."""
    folder = tmp_path_factory.mktemp("matrix")
    return prepare_material(folder, build.write_extension_zip(folder / "talkhead.zip"))
