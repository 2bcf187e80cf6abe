"""Which ports other machines can reach."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from study.doctor.checks import check_ports
from study.doctor.facts import OpenPort, open_ports
from tests.messages import assert_mentions

# Listens, says on which port, and goes when its input ends.
_LISTENS = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=getattr(socket, sys.argv[3])) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def listening():
    """Starts programs that listen."""
    started = []

    def start(host, port=0, program=sys.executable, mode=None, family="AF_INET"):
        environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
        environment |= {"RAY_AUTH_MODE": mode} if mode else {}
        process = subprocess.Popen(
            [program, "-c", _LISTENS, host, str(port), family],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return int(process.stdout.readline())

    yield start
    for process in started:
        process.communicate()


@pytest.fixture
def rays_python(tmp_path):
    """Path of a Python executable in Ray's program folder."""
    path = tmp_path / "site-packages" / "ray" / "gcs_server"
    path.parent.mkdir(parents=True)
    shutil.copy(os.path.realpath(sys.executable), path)
    return str(path)


def found(port):
    return [one for one in open_ports() if one.number == port]


def free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_of_ray_on_all_interfaces_is_found_and_fails(listening):
    if not free(10001):
        pytest.skip("something else listens on port 10001")
    listening("0.0.0.0", 10001)
    (one,) = found(10001)
    assert not one.requires_token
    outcome = check_ports((one,))
    assert outcome.verdict == "fail"
    assert "10001" in outcome.value
    assert "RAY_AUTH_MODE=token" in outcome.advice


def test_the_same_port_on_the_loopback_interface_is_no_matter(listening):
    if not free(10001):
        pytest.skip("something else listens on port 10001")
    listening("127.0.0.1", 10001)
    assert not found(10001)


def test_programs_of_ray_are_found_on_any_port_and_others_are_nobodys_business(listening, rays_python):
    (one,) = found(listening("0.0.0.0", program=rays_python))
    assert (one.process, one.requires_token) == ("gcs_server", False)
    assert check_ports((one,)).verdict == "fail"
    assert not found(listening("0.0.0.0"))


def test_a_program_states_whether_it_requires_a_token(listening, rays_python):
    (one,) = found(listening("::", program=rays_python, mode="token", family="AF_INET6"))
    assert one.requires_token
    assert check_ports((one,)).verdict == "pass"


def test_no_port_at_all_passes():
    assert check_ports(()).verdict == "pass"


def test_many_ports_of_one_program_are_one_word():
    found = check_ports(tuple(OpenPort(number=port, process="raylet", requires_token=False) for port in range(9)))
    assert_mentions(found.value, "raylet", "9 ports")
