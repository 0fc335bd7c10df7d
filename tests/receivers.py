"""Real HTTP servers on loopback for what leaves the daemon: one that records, and one that behaves like Slack."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Received:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False  # no answer until the server stops
    cut: bool = False  # close the connection without an answer
    drip: bool = False  # one byte now and then, for ever


@dataclass
class Receiver:
    """Answers from `script`, one entry per request, then `otherwise`; keeps what it received."""

    url: str
    received: list[Received] = field(default_factory=list)
    script: deque[Answer] = field(default_factory=deque)
    otherwise: Callable[[Received], Answer] = lambda _: Answer()
    stopped: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: Received) -> Answer:
        self.received.append(request)
        return self.script.popleft() if self.script else self.otherwise(request)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A recording server on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self._reply(state.answer(Received(self.command, parts.path, query, headers, body)))

        do_GET = do_PATCH = do_POST

        def _reply(self, answer: Answer) -> None:
            self.close_connection = True
            if answer.hang:
                state.stopped.wait(30)
            if answer.hang or answer.cut:
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            while answer.drip and not state.stopped.wait(0.05):
                self.wfile.write(b".")
                self.wfile.flush()

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None: ...  # the other side may hang up whenever it likes

    server = Server(("127.0.0.1", 0), Handler)
    state = Receiver(url=f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield state
    finally:
        state.stopped.set()
        server.shutdown()
        server.server_close()


@dataclass
class FakeSlack:
    """chat.postMessage, chat.update and file uploads as Slack answers them; `messages` is what the channel shows, by
    ts; `files` are the uploads that were completed, with where they were shared."""

    web: Receiver
    token: str = "xoxb-right"
    channel: str = "C0123456789"
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    archived: bool = False

    @property
    def base_url(self) -> str:
        return f"{self.web.url}/api/"

    @property
    def methods(self) -> list[str]:
        return [request.path.rsplit("/", 1)[-1] for request in self.web.received]

    def parents(self) -> list[dict[str, Any]]:
        return [message for message in self.messages.values() if "thread_ts" not in message]

    def replies(self) -> list[dict[str, Any]]:
        return [message for message in self.messages.values() if "thread_ts" in message]

    def respond(self, request: Received) -> Answer:
        if request.path.startswith("/upload/"):
            self.uploads[request.path.rsplit("/", 1)[-1]]["bytes"] = request.body
            return Answer(body=b"OK")
        return Answer(
            body=json.dumps(self._result(request)).encode(), headers={"Content-Type": "application/json; charset=utf-8"}
        )

    def _result(self, request: Received) -> dict[str, Any]:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return {"ok": False, "error": "invalid_auth"}
        if "/files." in request.path:
            return self._upload(request)
        told = request.json()
        if told.get("channel") not in (self.channel, "#deploys"):
            return {"ok": False, "error": "channel_not_found"}
        if self.archived:
            return {"ok": False, "error": "is_archived"}
        if request.path.endswith("chat.update"):
            if told["ts"] not in self.messages:
                return {"ok": False, "error": "message_not_found"}
            ts = told["ts"]
            self.messages[ts] |= told
        else:
            ts = f"1700000000.{len(self.messages) + 1:06d}"
            self.messages[ts] = told
        return {"ok": True, "channel": self.channel, "ts": ts}

    def _upload(self, request: Received) -> dict[str, Any]:
        """https://docs.slack.dev/reference/methods/files.getUploadURLExternal and files.completeUploadExternal."""
        told = request.query | {k: v[0] for k, v in parse_qs(request.body.decode()).items()}
        if request.path.endswith("getUploadURLExternal"):
            if int(told["length"]) <= 0 or not told["filename"]:
                return {"ok": False, "error": "invalid_arguments"}
            file_id = f"F{len(self.uploads) + 1}"
            self.uploads[file_id] = told
            return {"ok": True, "upload_url": f"{self.web.url}/upload/v1/{file_id}", "file_id": file_id}
        if told.get("channel_id") != self.channel:  # a name will not do
            return {"ok": False, "error": "channel_not_found"}
        done = [{**self.uploads[item["id"]], **item} for item in json.loads(told["files"])]
        if any(len(item.get("bytes", b"")) != int(item["length"]) for item in done):
            return {"ok": False, "error": "file_not_found"}
        self.files += [item | {"thread_ts": told.get("thread_ts")} for item in done]
        return {"ok": True, "files": [{"id": item["id"], "title": item["title"]} for item in done]}


@contextmanager
def fake_slack() -> Iterator[FakeSlack]:
    """A Slack of our own over real HTTP; script faults through `.web.script`."""
    with receiver() as web:
        slack = FakeSlack(web)
        web.otherwise = slack.respond
        yield slack
