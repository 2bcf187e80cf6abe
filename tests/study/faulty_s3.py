"""A proxy in front of an S3 server that simulates failures of real servers.

The proxy forwards requests unchanged, including the Host header, which is signed.
"""

import contextlib
import hashlib
import http.client
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.study.s3_server import S3Server

_SKEW_ALLOWED = timedelta(minutes=15)
_REASONS = {
    403: "AccessDenied",
    500: "InternalError",
    503: "SlowDown",
    507: "XMinioStorageFull",
}


class FaultyS3:
    """Failures of the proxy, which can change at any time.

    Attributes:
        environment: Environment variables of a client.
        status: Error status of every response; None forwards requests.
        only: HTTP methods that `status` and `hangs` affect.
        hangs: Accept requests without a response.
        delay_s: Delay before each request, in seconds.
        loses: Part of a path; the next PUT there is acknowledged and dropped.
        loses_answer: Part of a path; the next PUT there is forwarded, and the connection is closed without a response.
        knows_conditions: Refuse a conditional PUT to an existing path; the server behind ignores conditions.
        clock_ahead: Offset of the server's clock; requests signed at another time are refused.
        asked: Method and path of all requests.
    """

    def __init__(self, server: S3Server) -> None:
        self._behind = urlsplit(server.endpoint)
        self.status: int | None = None
        self.only = {"GET", "HEAD", "PUT", "POST", "DELETE"}
        self.hangs = False
        self.delay_s = 0.0
        self.loses: str | None = None
        self.loses_answer: str | None = None
        self.knows_conditions = False
        self.clock_ahead = timedelta()
        self.asked: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._written: set[str] = set()  # by a conditional PUT
        self._creating = threading.Lock()
        self.is_over = threading.Event()
        self.environment = dict(server.environment)

    def fails_for(self, seconds: float, status: int) -> None:
        """Answer with an error for some seconds."""
        self.status = status
        threading.Timer(seconds, lambda: setattr(self, "status", None)).start()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request, or forward it."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            self.asked.append((request.command, request.path))
        if self.is_over.wait(self.delay_s):
            return
        if request.command in self.only:
            while self.hangs and not self.is_over.wait(0.05):
                pass
            if self.status is not None:
                self._refuse(request, self.status, _REASONS[self.status])
                return
        signed = request.headers.get("X-Amz-Date")
        if self.clock_ahead and signed:
            now = datetime.now(UTC) + self.clock_ahead
            if abs(datetime.strptime(signed, "%Y%m%dT%H%M%S%z") - now) > _SKEW_ALLOWED:
                self._refuse(request, 403, "RequestTimeTooSkewed")
                return
        if request.command == "PUT" and self._once("loses", request.path):
            digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
            self._answer(request, 200, [("ETag", f'"{digest}"')], b"")
            return
        if request.command == "PUT" and self.knows_conditions and request.headers.get("If-None-Match") == "*":
            with self._creating:
                if request.path in self._written:
                    self._refuse(request, 412, "PreconditionFailed")
                else:
                    self._pass_on(request, body)
                    self._written.add(request.path)
            return
        self._pass_on(request, body)

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        answer, content = self._ask(request.command, request.path, dict(request.headers), body)
        if request.command == "PUT" and self._once("loses_answer", request.path):
            request.close_connection = True
            return
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() != "transfer-encoding"]
        self._answer(request, answer.status, headers, content)

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[Any, bytes]:
        connection = http.client.HTTPConnection(str(self._behind.hostname), self._behind.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer, answer.read()

    def _once(self, switch: str, path: str) -> bool:
        with self._lock:
            part = getattr(self, switch)
            if part is None or part not in path:
                return False
            setattr(self, switch, None)
            return True

    def _refuse(self, request: BaseHTTPRequestHandler, status: int, code: str) -> None:
        xml = f"<Error><Code>{code}</Code><Message>by intention</Message></Error>".encode()
        self._answer(request, status, [("Content-Type", "application/xml"), ("Content-Length", str(len(xml)))], xml)

    def _answer(
        self, request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes
    ) -> None:
        named = {name.lower(): value for name, value in headers}
        date = parsedate_to_datetime(named["date"]) if "date" in named else datetime.now(UTC)
        with contextlib.suppress(OSError):  # the client may have closed the connection
            request.send_response_only(status)
            for name, value in headers:
                if name.lower() != "date":
                    request.send_header(name, value)
            if "content-length" not in named:
                request.send_header("Content-Length", str(len(content)))
            request.send_header("Date", format_datetime((date + self.clock_ahead).astimezone(UTC), usegmt=True))
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(content)


@contextlib.contextmanager
def faulty_s3(server: S3Server) -> Iterator[FaultyS3]:
    """Run a proxy in front of a server."""
    faults = FaultyS3(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            faults.handle(self)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        faults.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.server_port}"
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield faults
        finally:
            faults.is_over.set()
            proxy.shutdown()
