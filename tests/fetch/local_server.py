"""A web server on this machine that serves one file, well or with one of the ways in which servers misbehave."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves `content` at every path; `behave` says how each request, by its number from 0, is answered.

    Behaviours: "well"; "ignores range"; "drops" (closes after a third of what is asked for); "stalls" (the same, but
    keeps the connection open in silence); "wrong" (other bytes); "longer" (another file's length); "unannounced" (no
    length); "elsewhere" (redirects to /elsewhere); "shifted" (another part than was asked for); "ftp" (redirects to
    an ftp server); a number (that HTTP status).
    """

    def __init__(self, content: bytes, *behaviours: str | int) -> None:
        self.content = content
        self.behaviours = list(behaviours) or ["well"]
        self.ranges: list[str | None] = []  # the Range header of each request
        self.released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *arguments) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/file.tar"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        behaviour = self.behaviours[min(len(self.ranges), len(self.behaviours) - 1)]
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if isinstance(behaviour, int):
            request.send_error(behaviour)
            return
        if behaviour in ("elsewhere", "ftp"):
            request.send_response(302)
            request.send_header("Location", "/elsewhere" if behaviour == "elsewhere" else "ftp://127.0.0.1/file.tar")
            request.end_headers()
            return
        content = bytes(255 - byte for byte in self.content) if behaviour == "wrong" else self.content
        content += b"more" if behaviour == "longer" else b""
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and behaviour != "ignores range" else None
        request.send_response(200 if start is None else 206)
        if start is not None:
            first = start + 1 if behaviour == "shifted" else start
            request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        body = content[start or 0 :]
        if behaviour != "unannounced":
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if behaviour in ("drops", "stalls"):
            body = body[: len(body) // 3]
        request.wfile.write(body)
        request.wfile.flush()
        if behaviour == "stalls":
            self.released.wait(10)

    def close(self) -> None:
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
