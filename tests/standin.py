"""A stand-in for a service: `python -m tests.standin MODE`. It imports nothing heavy, so many may be started.

Modes: `ready` (until told to stop), `usage` (exit code 2 with one line), `crash` (exit code 1 at once), `once` (ready
until a file in DATA_DIR named like its first argument appears, then exits with code 1), `late` (warns, and is ready
from when such a file appears), `stubborn` (ignores SIGTERM).
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

late_without = ""


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        missing = late_without and not (Path(os.environ["DATA_DIR"]) / late_without).exists()
        self.send_response(503 if missing else 200)
        self.end_headers()
        self.wfile.write(b'{"reasons":{"log":"there is much to do"}}' if missing else b'{"status":"ok"}')

    def log_message(self, *args: object) -> None:
        pass


def warn() -> None:
    sys.stderr.write(json.dumps({"level": "warning", "event": "low on ideas", "left": 3}) + "\n")
    sys.stderr.flush()


def main(mode: str, *rest: str) -> int:
    global late_without  # noqa: PLW0603 - each answer is a handler of its own
    if mode == "usage":
        sys.stderr.write("standin: SOMETHING is not set\n")
        return 2
    if mode == "crash":
        sys.stderr.write("ValueError: out of ideas\n")
        return 1
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if mode == "late":
        late_without = rest[0]
        warn()
    server = HTTPServer(("127.0.0.1", int(os.environ["ADMIN_PORT"])), Ready)
    server.timeout = 0.05
    while True:
        server.handle_request()
        if mode == "warns":
            warn()
            mode = "ready"
        if mode == "once" and (Path(os.environ["DATA_DIR"]) / rest[0]).exists():
            return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
