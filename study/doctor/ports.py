"""Which ports of Ray other machines can reach, and whether they ask for a token.

Whoever reaches Ray may run any code. Its processes are told by their names, and where they belong to another user by
the ports that Ray uses when it is told of no others.
"""

import ipaddress
import re

import psutil
from pydantic import BaseModel

__all__ = ["Listener", "listeners"]

_PORTS = {6379: "GCS", 8265: "dashboard", 10001: "client server", 52365: "dashboard agent"}
# The programs of Ray by path, its modules by name, its workers and agents by the title that they give themselves.
_RAY = re.compile(r"(?:/ray/(?:\S*/)?|-m (?=ray\.)|^(?=ray::))(?P<name>\S+)")
_TOLD_BY = 4  # words of a command line; the rest are its options


class Listener(BaseModel, frozen=True):
    """A port that other machines can reach.

    Attributes:
        port: its number.
        process: what listens there.
        asks_for_token: whether Ray's token authentication is on in that process.
    """

    port: int
    process: str
    asks_for_token: bool


def listeners() -> list[Listener]:
    """Ports of Ray on this machine that listen on more than the loopback interface, in order."""
    found = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or _is_loopback(connection.laddr.ip):
            continue
        name, is_ray, asks = _process(connection.pid)
        port = connection.laddr.port
        if is_ray or port in _PORTS:
            found[port] = Listener(port=port, process=name or _PORTS[port], asks_for_token=asks)
    return [found[port] for port in sorted(found)]


def _is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _process(pid: int | None) -> tuple[str, bool, bool]:
    """Name of a process, whether it is one of Ray's, and whether it asks for a token; of others' little is known."""
    try:
        if pid is None:
            return "", False, False
        process = psutil.Process(pid)
        # Ray's agents write their title over their environment; it is that of the raylet which started them.
        family = [one for one in (process, *process.parents()) if _name_in_ray(one)]
        asks = any(one.environ().get("RAY_AUTH_MODE", "").lower() == "token" for one in family)
        return _name_in_ray(process) or process.name(), process in family, asks
    except psutil.Error:
        return "", False, False


def _name_in_ray(process: psutil.Process) -> str:
    """As what a process serves Ray; empty for others."""
    found = _RAY.search(" ".join(process.cmdline()[:_TOLD_BY]))
    return found["name"].removesuffix(".py") if found else ""
