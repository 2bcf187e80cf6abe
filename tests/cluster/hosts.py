"""Several hosts on one machine, each with a separate address, disk, process space and SSH server (see hosts.sh).

`python -m tests.cluster.hosts check` names missing requirements; `… up N` creates hosts until Enter is pressed.
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
"""Not below /tmp, because each host has a private /tmp."""
_NETWORKS = 200
_PROGRAMS = {"ip": "iproute2", "sshd": "openssh-server", "ssh": "openssh-client", "rsync": "rsync", "nmap": "nmap"}
_OWN_NAMESPACES = ("--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc")
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def absent_packages() -> list[str]:
    """Return the missing Debian packages."""
    return sorted(package for program, package in _PROGRAMS.items() if not shutil.which(program, path=_PATH))


def available() -> str | None:
    """Return why hosts cannot be created here, or None. It creates and deletes a namespace to find out."""
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
    """`count` hosts, numbered from 0; the function `hosts` creates them."""

    def __init__(self, count: int, number: int) -> None:
        self.count = count
        self.name = f"marl{number}"
        self.folder = _FOLDER / str(number)
        self._subnet = f"10.77.{number}"
        self._kept = _kept_folders()

    @property
    def machine(self) -> str:
        """Address of this machine in the network of the hosts, on which servers for them listen."""
        return f"{self._subnet}.1"

    @property
    def key(self) -> Path:
        """Private SSH key of root on this machine and on the hosts."""
        return self.folder / "key"

    def address(self, host: int) -> str:
        """Return the address of a host for this machine and other hosts."""
        return f"{self._subnet}.{10 + host}"

    def run(
        self, host: int, *command: object, check: bool = True, timeout_s: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on a host, with only PATH, HOME and LANG in its environment."""
        arguments = ["enter", str(host), *map(str, command)]
        return self._script(*arguments, check=check, timeout_s=timeout_s)

    def shell(self, host: int, line: str, check: bool = True, timeout_s: float = 60) -> str:
        """Return the output of a shell line on a host, in the environment that `ray up` has set up."""
        return self.run(host, "bash", "-c", f"source ~/.bashrc; {line}", check=check, timeout_s=timeout_s).stdout

    def write(self, host: int, name: str, content: str) -> None:
        """Write a file in /tmp of a host."""
        (self.folder / str(host) / "tmp" / name).write_text(content)

    def processes(self, host: int) -> list[str]:
        """Return the command lines of a host's processes, without its SSH server and this `ps`."""
        lines = self.run(host, "ps", "-e", "-o", "args=").stdout.splitlines()
        return [line for line in lines if not line.startswith(("sshd", "/usr/sbin/sshd", "ps -e"))]

    def kill(self, host: int, pattern: str) -> None:
        """Kill all processes of a host whose command line matches a pattern.

        Raises:
            AssertionError: If no process matches.
        """
        # `pkill` ignores itself, although its command line contains the pattern.
        killed = self.run(host, "pkill", "-KILL", "-f", pattern, check=False).returncode == 0
        assert killed, f"host {host} runs nothing like {pattern}: {self.processes(host)}"

    def cut(self, host: int) -> None:
        """Disconnect the network without closing connections."""
        self._script("cut", str(host))

    def join(self, host: int) -> None:
        """Reconnect the network."""
        self._script("join", str(host))

    def power_off(self, host: int) -> None:
        """Kill all processes of a host at once; its disk stays."""
        self._script("off", str(host))

    def power_on(self, host: int) -> None:
        """Start a host and wait for its SSH server."""
        self._script("on", str(host))

    def reboot(self, host: int) -> None:
        """Power a host off and on."""
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
    """Return folders below /tmp and $HOME that a host needs: the project, its environment, and its Python."""
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
