"""A stand-in of the Messages API: answers a marked prompt with one Write tool call, then says that it is done.

Standard library only, one file: it runs with `python3 messages_api.py PORT` in a container beside the agent.
The streaming format is the documented one of the public Messages API (server-sent events message_start,
content_block_start, content_block_delta, content_block_stop, message_delta, message_stop).
A prompt `please write WORD into NAME` makes it call the tool Write with NAME in the working directory.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ASKED = re.compile(r"please write (\S+) into (\S+)")
WHERE = re.compile(r"(?:[Ww]orking directory|cwd)[^/\n]*(/[^\s<\"]*)")


def texts(content: Any) -> Iterator[str]:
    """All text blocks of a message's content, which is a string or a list of blocks."""
    if isinstance(content, str):
        yield content
        return
    for block in content or []:
        if block.get("type") == "text":
            yield block["text"]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The one content block to answer with."""
    messages = request.get("messages") or []
    said = [message for message in messages if message.get("role") != "system"]  # the rest are the client's own notes
    last = said[-1] if said else {}
    blocks = last.get("content")
    if isinstance(blocks, list) and any(b.get("type") == "tool_result" for b in blocks):
        return {"type": "text", "text": "The file is written."}
    tools = {tool.get("name") for tool in request.get("tools") or []}
    asked = ASKED.search(" ".join(texts(blocks)))
    if asked is None or "Write" not in tools:
        return {"type": "text", "text": "Ready."}
    everything = " ".join([*texts(request.get("system")), *(t for m in messages for t in texts(m.get("content")))])
    where = WHERE.search(everything)
    folder = where.group(1).rstrip("/.") if where else ""
    return {
        "type": "tool_use",
        "id": "toolu_standin_1",
        "name": "Write",
        "input": {"file_path": f"{folder}/{asked.group(2)}", "content": asked.group(1) + "\n"},
    }


def events(block: dict[str, Any], model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The stream for one content block, as (event name, data)."""
    stop = "tool_use" if block["type"] == "tool_use" else "end_turn"
    message = {"id": "msg_standin", "type": "message", "role": "assistant", "model": model, "content": []}
    usage = {"input_tokens": 1, "output_tokens": 1}
    yield "message_start", {"message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}}
    if block["type"] == "tool_use":
        start = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    else:
        start = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": block["text"]}
    yield "content_block_start", {"index": 0, "content_block": start}
    yield "content_block_delta", {"index": 0, "delta": delta}
    yield "content_block_stop", {"index": 0}
    yield "message_delta", {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage}
    yield "message_stop", {}


class Handler(BaseHTTPRequestHandler):
    """Answers POST /v1/messages; everything else gets an empty JSON object."""

    protocol_version = "HTTP/1.1"

    def _json(self, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def do_GET(self) -> None:
        self._json({})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = self.path.partition("?")[0]
        if path.endswith("/count_tokens"):
            return self._json({"input_tokens": 1})
        if not path.endswith("/v1/messages"):
            return self._json({})
        block, model = answer(request), request.get("model", "standin")
        if not request.get("stream"):
            stop = "tool_use" if block["type"] == "tool_use" else "end_turn"
            usage = {"input_tokens": 1, "output_tokens": 1}
            head = {"id": "msg_standin", "type": "message", "role": "assistant", "model": model}
            return self._json({**head, "content": [block], "stop_reason": stop, "stop_sequence": None, "usage": usage})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for name, data in events(block, model):
            self.wfile.write(f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode())
            self.wfile.flush()
        self.close_connection = True
        return None


def main(port: int) -> None:
    """Serve until killed."""
    ThreadingHTTPServer(("0.0.0.0", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
