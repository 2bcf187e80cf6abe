"""With a configured login provider, studies are visible only after signing in."""

import pytest
from streamlit.testing.v1 import AppTest

from tests.dashboard.opening import APP, words
from tests.study.report.studies import trial_of, write_study

pytestmark = pytest.mark.slow


def opened(monkeypatch, store, **secrets):
    monkeypatch.setattr("sys.argv", [str(APP), str(store)])
    app = AppTest.from_file(str(APP), default_timeout=60)
    for name, value in secrets.items():
        app.secrets[name] = value
    app.run()
    assert not app.exception
    return app


def test_without_a_login_provider_the_page_is_public(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4])])
    assert "1 complete, of 1" in words(opened(monkeypatch, tmp_path))


def test_with_a_login_provider_the_page_only_offers_to_sign_in(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4])])
    auth = {"client_id": "studies", "server_metadata_url": "https://login.example.org/openid"}
    app = opened(monkeypatch, tmp_path, auth=auth)
    assert [button.label for button in app.button] == ["Sign in"]
    assert "tiny" not in words(app)
    assert not app.selectbox
