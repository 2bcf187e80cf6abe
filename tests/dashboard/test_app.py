import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from study.objects import Objects
from tests.study.commands import command

pytestmark = pytest.mark.slow

PAGE = Path(dashboard.__file__).with_name("app.py")


@pytest.fixture
def open_page(monkeypatch):
    def open_(store) -> AppTest:
        monkeypatch.setattr("sys.argv", [str(PAGE), str(store)])
        page = AppTest.from_file(str(PAGE), default_timeout=60).run()
        assert not page.exception
        return page

    return open_


def test_a_study_shows_its_state_its_trade_off_and_its_front(open_page, finished):
    page = open_page(finished.store.objects.uri)
    assert page.selectbox(key="study").options == ["tiny"]
    assert {metric.label: metric.value for metric in page.metric} == {
        "state": "complete",
        "complete": "4",
        "trials wanted": "4",
    }
    assert page.get("vega_lite_chart") or page.get("arrow_vega_lite_chart")
    (front,) = page.dataframe
    assert front.value["trial"].tolist() == finished.front()["trial"].tolist()
    assert "disentanglement/separation/sd" in front.value


def test_what_is_damaged_is_named(open_page, finished):
    finished.store.objects.write("tiny/reports/0001-999999.parquet", b"damaged")
    (warning,) = open_page(finished.store.objects.uri).warning
    assert "0001-999999.parquet was left out" in warning.value


def test_an_empty_store_says_how_to_begin(open_page, tmp_path):
    (info,) = open_page(tmp_path).info
    assert "marl-study run studies/quickstart.yaml" in info.value


def test_a_store_that_is_none_is_one_clear_line(open_page):
    (error,) = open_page("ftp-of-old://host/x").error
    assert "must be a folder or s3://bucket/prefix" in error.value


def test_the_command_serves_the_page_on_this_machine_only(finished):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = command("dashboard", "--store", Objects(finished.store.objects.uri).uri, "--port", port)
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as served:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health") as answer:
                        assert answer.read() == b"ok"
                    break
                except OSError:
                    assert served.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            with socket.socket() as outside:
                outside.settimeout(2)
                assert outside.connect_ex((_address_of_this_machine(), port)) != 0
        finally:
            served.terminate()


def _address_of_this_machine() -> str:
    """One that is not the loopback's; where there is none, one that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))
            return str(route.getsockname()[0])
        except OSError:
            return "192.0.2.1"
