#!/usr/bin/env python3
"""A service for tests: HTTP/1.1 and WebSockets (RFC 6455), with nothing but the standard library.

Usage: password=... bin/service.py PORT PREFIX
"""

import asyncio
import base64
import hashlib
import json
import os
import struct
import sys
import time
from collections import Counter
from urllib.parse import parse_qs, urlsplit

BLOCK = os.urandom(1 << 20)
ASKED: Counter[str] = Counter()
PASSWORD = os.environ.pop("password")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await one_request(reader, writer):
            pass
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def one_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; whether another one may follow."""
    line = (await reader.readline()).decode("latin-1").split()
    if not line:
        return False
    method, target, _ = line
    headers: list[tuple[str, str]] = []
    while field := (await reader.readline()).decode("latin-1").rstrip("\r\n"):
        name, _, value = field.partition(":")
        headers.append((name.lower(), value.strip()))
    known = dict(headers)
    if known.get("authorization") != f"token {PASSWORD}":
        head(writer, 403, {"Content-Length": "0"})
        return True
    url = urlsplit(target)
    words = url.path.removeprefix(PREFIX).strip("/").split("/")
    query = {key: values[0] for key, values in parse_qs(url.query).items()}
    if words[0] == "early":  # an answer before the body has been read, and then the line is cut
        head(writer, 413, {"Content-Length": "5", "Connection": "close"})
        writer.write(b"large")
        await writer.drain()
        return False
    if words[0] == "ws":
        await websocket(reader, writer, known)
        return False
    size, digest = await read_body(reader, known)
    ASKED[target] += 1
    if words[0] == "bytes":
        await send_bytes(writer, int(words[1]), "chunked" in query)
    elif words[0] == "broken":
        chunked = "chunked" in query
        framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": "1000"}
        head(writer, 200, framing)
        writer.write(b"4\r\nhalf\r\n" if chunked else b"half")
        await writer.drain()
        return False
    elif words[0] == "slow":
        await asyncio.sleep(float(words[1]))
        text(writer, "late")
    elif words[0] == "blocks":  # as a service with a single thread does
        time.sleep(float(words[1]))
        text(writer, "late")
    elif words[0] == "asked":
        text(writer, str(ASKED[PREFIX + query["for"]]))
    elif words[0] == "drip":
        head(writer, 200, {"Transfer-Encoding": "chunked"})
        for number in range(int(words[1])):
            writer.write(b"2\r\n%d\n\r\n" % (number % 10))
            await writer.drain()
            await asyncio.sleep(0.2)
        writer.write(b"0\r\n\r\n")
    elif words[0] == "headers":  # answers with the headers it is told
        sent = json.loads(query["set"])
        raw = "".join(f"{name}: {value}\r\n" for name, value in sent)
        writer.write(f"HTTP/1.1 200 OK\r\n{raw}Content-Length: 2\r\n\r\nok".encode("latin-1"))
    elif words[0] == "redirect":
        head(writer, 302, {"Location": query["to"], "Content-Length": "0"})
    elif words[0] == "worker":
        script = b"self.addEventListener('fetch', () => {});"
        kind = {"Content-Type": "text/javascript", "Service-Worker-Allowed": "/"}
        head(writer, 200, {**kind, "Content-Length": str(len(script))})
        writer.write(script)
    elif words[0] == "page":
        body = query["html"].encode()
        head(writer, 200, {"Content-Type": "text/html", "Content-Length": str(len(body))})
        writer.write(body)
    elif words[0] == "exit":
        os._exit(int(words[1]))
    elif words[0] == "status":
        head(writer, int(words[1]), {} if words[1] == "204" else {"Content-Length": "0"})
    elif words[0] == "not-modified":
        head(writer, 304, {"ETag": '"x"'})
    else:
        facts = {"method": method, "target": target, "headers": headers}
        text(writer, json.dumps({**facts, "size": size, "sha256": digest}), method == "HEAD")
    await writer.drain()
    return True


def head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))


def text(writer: asyncio.StreamWriter, body: str, only_head: bool = False) -> None:
    data = body.encode()
    head(writer, 200, {"Content-Type": "application/json", "Content-Length": str(len(data))})
    if not only_head:
        writer.write(data)


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> tuple[int, str]:
    found, size = hashlib.sha256(), 0
    if "chunked" in headers.get("transfer-encoding", ""):
        while length := int((await reader.readline()).split(b";")[0], 16):
            data = await reader.readexactly(length + 2)
            found.update(data[:-2])
            size += length
        await reader.readline()
    left = int(headers.get("content-length", "0"))
    while left:
        data = await reader.read(min(left, 1 << 20))
        if not data:
            raise ConnectionError
        found.update(data)
        left -= len(data)
        size += len(data)
    return size, found.hexdigest()


async def send_bytes(writer: asyncio.StreamWriter, size: int, chunked: bool) -> None:
    framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
    head(writer, 200, framing)
    while size > 0:
        part = BLOCK[:size]
        writer.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
        await writer.drain()
        size -= len(part)
    if chunked:
        writer.write(b"0\r\n\r\n")


async def websocket(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]
) -> None:
    """Echo every message; `send N` is answered with N bytes, `close N` by closing with code N."""
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    answer = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept}
    if "sec-websocket-protocol" in headers:
        answer["Sec-WebSocket-Protocol"] = headers["sec-websocket-protocol"].split(",")[0]
    head(writer, 101, answer)
    while True:
        first, second = await reader.readexactly(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack(">H", await reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await reader.readexactly(8))
        mask = await reader.readexactly(4)
        data = await reader.readexactly(length)
        whole = int.from_bytes(data, "big") ^ int.from_bytes(
            (mask * (length // 4 + 1))[:length], "big"
        )
        data = whole.to_bytes(length, "big")
        opcode = first & 15
        if opcode == 8:
            writer.write(frame(8, data))
            await writer.drain()
            return
        if opcode == 9:
            writer.write(frame(10, data))
        elif data.startswith(b"close "):
            writer.write(frame(8, struct.pack(">H", int(data[6:]))))
        elif data.startswith(b"send "):
            writer.write(frame(2, BLOCK[: int(data[5:])]))
        else:
            writer.write(frame(opcode, data))
        await writer.drain()


def frame(opcode: int, data: bytes) -> bytes:
    if len(data) < 126:
        return bytes((128 | opcode, len(data))) + data
    if len(data) < 65536:
        return bytes((128 | opcode, 126)) + struct.pack(">H", len(data)) + data
    return bytes((128 | opcode, 127)) + struct.pack(">Q", len(data)) + data


async def main() -> None:
    server = await asyncio.start_server(serve, "0.0.0.0", int(sys.argv[1]))
    async with server:
        await server.serve_forever()


PREFIX = sys.argv[2]
asyncio.run(main())
