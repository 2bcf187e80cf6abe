"""What tests of reports share."""

import pytest


@pytest.fixture
def flat_maps(monkeypatch):
    """Maps without UMAP, which compiles itself for half a minute: the first latent, twice."""
    monkeypatch.setattr("study.report.maps._plane", lambda latents_ND: latents_ND[:, [0, 0]])
