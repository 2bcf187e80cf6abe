import pytest

from study.datasets.prepared_set import PreparedSet
from tests.study.datasets.tones import prepared


@pytest.fixture
def tones(tmp_path, monkeypatch) -> PreparedSet:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return prepared(tmp_path / "store")
