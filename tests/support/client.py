"""A client of one connection that hides nothing: raw bytes in, exact replies out."""

import contextlib
import select
import socket

from support.resp import ErrorReply, Push, Reader, encode_command


class UnexpectedError(AssertionError):
    """A command that had to succeed got an error reply."""


class Client:
    """One connection over TCP (`port`) or a unix socket (`path`).

    Every wait is bounded by `timeout` seconds; a server that does not answer in time fails the test.
    """

    def __init__(self, port=None, path=None, host="127.0.0.1", timeout=60.0, receive_buffer=None):
        family = socket.AF_UNIX if path else (socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(path if path else (host, port))
        except OSError:
            self.socket.close()
            raise
        if not path:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = Reader(lambda: self.socket.recv(1 << 18))
        self.pushes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def abort(self):
        """Closes with a reset, as a crashed client's kernel would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def set_timeout(self, seconds):
        self.socket.settimeout(seconds)

    def send_raw(self, data):
        self.socket.sendall(data)

    def send_to_who_may_close(self, data):
        """As much as arrives before the server closes the connection, if it does."""
        with contextlib.suppress(ConnectionError):
            self.send_raw(data)

    def send(self, *arguments):
        """Sends one command without reading its reply."""
        self.socket.sendall(encode_command(*arguments))

    def read_reply(self):
        """The next reply. RESP3 push messages on the way are kept in `pushes`."""
        while True:
            reply = self.reader.read_reply()
            if not isinstance(reply, Push):
                return reply
            self.pushes.append(reply)

    def read_push(self):
        """The next push message, also one that came earlier."""
        if self.pushes:
            return self.pushes.pop(0)
        reply = self.reader.read_reply()
        if not isinstance(reply, Push):
            raise AssertionError(f"expected a push message, got {reply!r}")
        return reply

    def command(self, *arguments):
        """One command and its reply, an error being a reply like any other."""
        self.send(*arguments)
        return self.read_reply()

    def ok(self, *arguments):
        """One command that must not fail, and its reply."""
        reply = self.command(*arguments)
        if isinstance(reply, ErrorReply):
            raise UnexpectedError(f"{describe_command(arguments)} -> {reply!r}")
        return reply

    def inline(self, line):
        """A command as a line of text."""
        self.send_raw(line + b"\r\n" if isinstance(line, bytes) else line.encode() + b"\r\n")
        return self.read_reply()

    def pipeline(self, commands):
        """Sends all commands in one write and returns all replies. Mind the socket buffers: keep it modest."""
        self.send_raw(b"".join(encode_command(*command) for command in commands))
        return [self.read_reply() for _ in commands]

    def read_raw(self):
        """The next bytes as they come; b"" at the end of the stream."""
        try:
            return self.reader.read_available()
        except (EOFError, ConnectionResetError):
            return b""

    def read_until_closed(self):
        """Everything up to the end of the stream, raw."""
        data = bytearray()
        while True:
            part = self.read_raw()
            if not part:
                return bytes(data)
            data += part

    def has_arrived(self):
        """Something can be read, if only the end of the stream."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def is_closed_by_server(self):
        """Waits for the end of the stream; anything else that arrives, or nothing at all, is no end."""
        try:
            return self.read_raw() == b""
        except socket.timeout:
            return False

    def info(self, *sections):
        """INFO as a dictionary of text."""
        return parse_info(self.ok("INFO", *sections))


def parse_info(reply):
    text = reply if isinstance(reply, bytes) else reply.text
    pairs = (line.split(":", 1) for line in text.decode().split("\r\n") if ":" in line and not line.startswith("#"))
    return dict(pairs)


def describe_command(arguments, limit=60):
    """A command for a message: long arguments are cut and their length is told."""
    shown = []
    for argument in arguments:
        if isinstance(argument, (bytes, bytearray)) and len(argument) > limit:
            shown.append(f"{bytes(argument[:limit])!r}...({len(argument)} bytes)")
        elif isinstance(argument, (bytes, bytearray)):
            shown.append(repr(bytes(argument))[1:])
        else:
            shown.append(str(argument))
    return " ".join(shown)
