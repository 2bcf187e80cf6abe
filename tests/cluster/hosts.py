"""Several hosts on one machine, each with a separate address, disk, process space and SSH server (see hosts.sh).

`python -m tests.cluster.hosts check` says what is missing to make them; `… up N` makes them until Enter is pressed.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.study.commands import ROOT

__all__ = ["Hosts", "absent_packages", "available", "hosts"]

_SCRIPT = Path(__file__).with_name("hosts.sh")
_FOLDER = Path("/var/tmp/marl-hosts")
"""Not below /tmp, of which each host has its own."""
_NETWORKS = 200
_PROGRAMS = {"ip": "iproute2", "sshd": "openssh-server", "ssh": "openssh-client", "rsync": "rsync", "nmap": "nmap"}
_OWN_NAMESPACES = ("--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc")
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def absent_packages() -> list[str]:
    """Debian packages that hosts need and this machine lacks."""
    return sorted(package for program, package in _PROGRAMS.items() if not shutil.which(program, path=_PATH))


def available() -> str | None:
    """Why hosts cannot be made here; nothing where they can. It tries, in some hundredths of a second."""
    if sys.platform != "linux":
        return "hosts are Linux namespaces, and this is no Linux"
    if os.geteuid() != 0:
        return "only root may make network namespaces, and this is another user"
    if absent := absent_packages():
        return f"Debian packages are missing, for apt-get install: {' '.join(absent)}"
    name = f"try{os.getpid()}"[:15]
    try:
        _run("ip", "link", "add", name, "type", "bridge")
        _run("ip", "netns", "add", name)
        _run("ip", "netns", "exec", name, "unshare", *_OWN_NAMESPACES, "true")
    except subprocess.CalledProcessError as error:
        return f"namespaces are not permitted here: {' '.join(error.cmd)}: {error.stderr.strip()}"
    finally:
        for what in ("netns", "link"):
            subprocess.run(["ip", what, "delete", name], capture_output=True, check=False)
    return None


class Hosts:
    """`count` hosts, numbered from 0. Made by `hosts`."""

    def __init__(self, count: int, number: int) -> None:
        self.count = count
        self.name = f"marl{number}"
        self.folder = _FOLDER / str(number)
        self._subnet = f"10.77.{number}"
        self._kept = _kept_folders()

    @property
    def machine(self) -> str:
        """The address under which hosts reach this machine: a server for them listens there, not at 127.0.0.1."""
        return f"{self._subnet}.1"

    @property
    def key(self) -> Path:
        """The private key with which root of this machine, and of the hosts, is let in by SSH."""
        return self.folder / "key"

    def address(self, host: int) -> str:
        """Where a host is found by this machine and by other hosts."""
        return f"{self._subnet}.{10 + host}"

    def run(
        self, host: int, *command: object, check: bool = True, timeout_s: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """A command on a host, with no environment but PATH, HOME and LANG."""
        arguments = ["enter", str(host), *map(str, command)]
        return self._script(*arguments, check=check, timeout_s=timeout_s)

    def shell(self, host: int, line: str, check: bool = True, timeout_s: float = 60) -> str:
        """What a line of shell prints on a host, in the environment that `ray up` has set up there."""
        return self.run(host, "bash", "-c", f"source ~/.bashrc; {line}", check=check, timeout_s=timeout_s).stdout

    def write(self, host: int, name: str, content: str) -> None:
        """A file in /tmp of a host."""
        (self.folder / str(host) / "tmp" / name).write_text(content)

    def processes(self, host: int) -> list[str]:
        """Command lines of what runs on a host, without its SSH server and without what looks at it."""
        lines = self.run(host, "ps", "-e", "-o", "args=").stdout.splitlines()
        return [line for line in lines if not line.startswith(("sshd", "/usr/sbin/sshd", "ps -e"))]

    def kill(self, host: int, pattern: str) -> None:
        """`kill -9` of all processes of a host whose command line matches a pattern.

        Raises:
            AssertionError: when none does.
        """
        # Who looks for a pattern has it in its own command line, which `pkill` leaves out.
        killed = self.run(host, "pkill", "-KILL", "-f", pattern, check=False).returncode == 0
        assert killed, f"host {host} runs nothing like {pattern}: {self.processes(host)}"

    def cut(self, host: int) -> None:
        """Pull the network cable; connections are not closed, they go silent."""
        self._script("cut", str(host))

    def join(self, host: int) -> None:
        """Put the network cable back."""
        self._script("join", str(host))

    def power_off(self, host: int) -> None:
        """All its processes are gone at once; its disk stays."""
        self._script("off", str(host))

    def power_on(self, host: int) -> None:
        """Start it; returns when it answers SSH."""
        self._script("on", str(host))

    def reboot(self, host: int) -> None:
        """A power cut, and a start."""
        self.power_off(host)
        self.power_on(host)

    def _script(self, *arguments: str, check: bool = True, timeout_s: float = 60) -> "subprocess.CompletedProcess[str]":
        environment = {
            "PATH": _PATH,
            "NAME": self.name,
            "SUBNET": self._subnet,
            "STATE": str(self.folder),
            "KEEP": " ".join(map(str, self._kept)),
        }
        done = subprocess.run(
            [_SCRIPT, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )
        if check and done.returncode != 0:
            said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            raise RuntimeError(f"{' '.join(arguments)}: exit status {done.returncode}\n{said}")
        return done


@contextlib.contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    """Create hosts and remove them when the block ends. Hosts of other processes stay.

    Hosts of killed processes are removed first.
    """
    _clear_away()
    made = Hosts(count, _take_network())
    made.folder.mkdir(parents=True, mode=0o700)
    (made.folder / "owner").write_text(f"{os.getpid()}")
    try:
        made._script("up", str(count))
        yield made
    finally:
        _remove(made)


def _take_network() -> int:
    """Return the number of a free network and reserve it: only one process can create the bridge of that name."""
    for number in range(_NETWORKS):
        if not (_FOLDER / str(number)).exists():
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("ip", "link", "add", f"marl{number}", "type", "bridge")
                return number
    raise RuntimeError(f"{_NETWORKS} networks of hosts exist; clear away {_FOLDER}")


def _clear_away() -> None:
    for folder in _FOLDER.glob("[0-9]*"):
        owner = folder / "owner"
        if owner.exists() and not Path("/proc", owner.read_text() or "0").exists():
            _remove(Hosts(0, int(folder.name)))


def _remove(made: Hosts) -> None:
    made._script("down")
    shutil.rmtree(made.folder)


def _kept_folders() -> list[Path]:
    """What a host needs of this machine's /tmp and $HOME: the project, its environment, and the Python of that."""
    needed = {ROOT, Path(sys.prefix), Path(sys.base_prefix)}
    # SSH on a host uses the home of the user; $HOME of this process may differ.
    private = (Path("/tmp"), Path(pwd.getpwuid(os.geteuid()).pw_dir))
    below = {path for path in needed if any(path.is_relative_to(folder) for folder in private)}
    return sorted(path for path in below if not any(path != other and path.is_relative_to(other) for other in below))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, env={"PATH": _PATH})


if __name__ == "__main__":
    reason = available()
    if reason is not None:
        sys.exit(f"hosts for tests cannot be made: {reason}")
    if sys.argv[1:2] == ["up"]:
        with hosts(int(sys.argv[2])) as up:
            print(*(f"ssh -i {up.key} root@{up.address(host)}" for host in range(up.count)), sep="\n")  # noqa: T201
            input()
