import socket
import subprocess
import time
import urllib.request

import pytest

from tests.study.commands import command

pytestmark = pytest.mark.slow


def test_the_dashboard_command_listens_on_localhost_only(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = command("dashboard", "--store", tmp_path, "--port", port)
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
    """Return the address of a network interface, or an unassigned one on a machine without network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))
            return str(route.getsockname()[0])
        except OSError:
            return "192.0.2.1"
