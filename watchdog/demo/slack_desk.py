"""A stand-in for Slack's API on loopback: without a token the daemon still sends its messages, and we show them."""

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from watchdog.demo.serving import HOST

LARGEST_BYTES = 1 << 20
_LINK = re.compile(r"<(https?://[^|>]+)\|([^>]+)>")


@dataclass(slots=True)
class Post:
    """One message of the channel: its text as last edited, and the thread below it."""

    text: str
    edits: int = 0
    replies: list[str] = field(default_factory=list)


class SlackDesk:
    """Takes chat.postMessage and chat.update as Slack does, and remembers."""

    def __init__(self) -> None:
        self._posts: dict[str, Post] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((HOST, 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, name="slack-desk", daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}/api/"

    def posts(self) -> list[Post]:
        """The channel as a reader sees it now."""
        with self._lock:
            return list(self._posts.values())

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2.0)

    def answer(self, method: str, told: Mapping[str, str]) -> dict[str, Any]:
        """What Slack would answer."""
        with self._lock:
            if method == "chat.update":
                post = self._posts.get(told.get("ts", ""))
                if post is None:
                    return {"ok": False, "error": "message_not_found"}
                post.text, post.edits = shown(told), post.edits + 1
                return {"ok": True, "ts": told["ts"], "channel": told.get("channel", "")}
            if method == "chat.postMessage":
                return {"ok": True, "ts": self._posted(told), "channel": told.get("channel", "")}
        return {"ok": False, "error": "unknown_method"}

    def _posted(self, told: Mapping[str, str]) -> str:
        parent = self._posts.get(told.get("thread_ts", ""))
        if parent is not None:
            parent.replies.append(shown(told))
            return f"{told['thread_ts']}.{len(parent.replies)}"
        stamp = f"{len(self._posts) + 1}.000000"
        self._posts[stamp] = Post(text=shown(told))
        return stamp


def shown(told: Mapping[str, str]) -> str:
    """A message's blocks as plain lines, as a reader would see them; its text where it has no blocks."""
    blocks = json.loads(told.get("blocks") or "[]")
    lines = [line for block in blocks for line in _lines(block)]
    return "\n".join(lines) if lines else plain(told.get("text", ""))


def _lines(block: Mapping[str, Any]) -> list[str]:
    if block.get("type") == "context":  # the footer: ids for machines
        return []
    texts = [block["text"]] if "text" in block else []
    return [plain(str(item.get("text", ""))) for item in [*texts, *block.get("fields", ())]]


def plain(mrkdwn: str) -> str:
    """Without mrkdwn's escapes and links; a field's name and value on one line."""
    text = _LINK.sub(r"\2: \1", mrkdwn).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    name, broken, value = text.partition("*\n")
    return f"{name.removeprefix('*')}: {value}" if broken else text


def _handler(desk: SlackDesk) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = min(int(self.headers.get("Content-Length", 0)), LARGEST_BYTES)
            answer = json.dumps(desk.answer(self.path.rsplit("/", 1)[-1], self._told(self.rfile.read(length)))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def _told(self, body: bytes) -> dict[str, str]:
            text = body.decode("utf-8", "replace")
            if "json" in self.headers.get("Content-Type", ""):
                given = json.loads(text)
                return {key: v if isinstance(v, str) else json.dumps(v) for key, v in given.items()}
            return {key: values[-1] for key, values in parse_qs(text).items()}

        def log_message(self, *args: object) -> None:
            """Say nothing: the terminal belongs to the demo."""

    return Handler
