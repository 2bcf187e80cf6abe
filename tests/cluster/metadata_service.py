"""The part of EC2's metadata service that spot instances use: version 2 of the protocol, with tokens.

`serve` answers at 169.254.169.254 as it does there; `announce` lets it tell from now on that the instance is reclaimed
in two minutes.
"""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_ADDRESS = "169.254.169.254"
NOTICE = Path("/tmp/instance-action.json")
TOKEN = "a-token-of-this-instance"


class Service(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        if self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
            self._answer(200, TOKEN)
        else:
            self._answer(400, "")

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._answer(401, "")
        elif self.path == "/latest/meta-data/spot/instance-action" and NOTICE.exists():
            self._answer(200, NOTICE.read_text())
        else:
            self._answer(404, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    if sys.argv[1] == "announce":
        at = datetime.now(UTC) + timedelta(minutes=2)
        NOTICE.write_text(json.dumps({"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}))
    else:
        subprocess.run(["ip", "address", "add", f"{_ADDRESS}/32", "dev", "lo"], check=True)
        ThreadingHTTPServer((_ADDRESS, 80), Service).serve_forever()
