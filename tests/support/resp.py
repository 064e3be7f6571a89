"""RESP2 and RESP3 as Python values, without losing anything.

A reply becomes a value that remembers its wire type, so that a test can tell `+OK` from `$2 OK`, the null of
RESP2 from that of RESP3, a map from a flat array. Bulk strings are `bytes`, integers are `int`, arrays are
`list`; everything else is one of the classes below, which compare by type and value.
"""


class Typed:
    """A reply whose wire type matters beyond its value."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(self) is type(other) and self.value == other.value

    def __hash__(self):
        return hash((type(self).__name__, repr(self.value)))

    def __repr__(self):
        return f"{type(self).__name__}({self.value!r})"


def _as_bytes(value):
    return value.encode() if isinstance(value, str) else bytes(value)


class Simple(Typed):
    """+OK"""

    __slots__ = ()

    def __init__(self, value):
        super().__init__(_as_bytes(value))


class ErrorReply(Typed):
    """-ERR ... (or a RESP3 blob error); the text is without the leading sign."""

    __slots__ = ()

    def __init__(self, value):
        super().__init__(_as_bytes(value))

    @property
    def text(self):
        return self.value.decode("utf-8", "backslashreplace")


class Null(Typed):
    """value is "bulk" for $-1, "array" for *-1, "null" for the _ of RESP3."""

    __slots__ = ()


class Boolean(Typed):
    """#t or #f"""

    __slots__ = ()


class Double(Typed):
    """,3.14: kept as the bytes sent, so that the formatting is compared too."""

    __slots__ = ()

    def __init__(self, value):
        super().__init__(_as_bytes(value))

    def __float__(self):
        return float(self.value)


class BigNumber(Typed):
    """(3492890328409238509324850943850943825024385"""

    __slots__ = ()


class Verbatim(Typed):
    """=15 txt:Some string: value is (format, text)."""

    __slots__ = ()

    @property
    def text(self):
        return self.value[1]


class Map(Typed):
    """%: value is a list of (key, value) pairs in the order sent."""

    __slots__ = ()

    def get(self, key):
        wanted = _as_bytes(key) if isinstance(key, (str, bytes)) else key
        for candidate, value in self.value:
            if candidate == wanted or (isinstance(candidate, Simple) and candidate.value == wanted):
                return value
        raise KeyError(key)

    def keys(self):
        return [key for key, _ in self.value]


class SetReply(Typed):
    """~: value is a list in the order sent."""

    __slots__ = ()


class Push(Typed):
    """>: an out-of-band message."""

    __slots__ = ()


class Attributed(Typed):
    """A reply that came after a | attribute: value is (Map of attributes, the reply)."""

    __slots__ = ()


OK = Simple("OK")
QUEUED = Simple("QUEUED")
PONG = Simple("PONG")
NULL_BULK = Null("bulk")
NULL_ARRAY = Null("array")
NULL = Null("null")
_FREQUENT_SIMPLE = {b"OK": OK, b"QUEUED": QUEUED, b"PONG": PONG}


class ProtocolError(Exception):
    """The server sent something that is not RESP."""


def encode_argument(argument):
    if isinstance(argument, bytes):
        return argument
    if isinstance(argument, (bytearray, memoryview)):
        return bytes(argument)
    return str(argument).encode()


def encode_command(*arguments):
    """A command as the array of bulk strings that clients send."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = encode_argument(argument)
        parts.append(b"$%d\r\n" % len(data))
        parts.append(data)
        parts.append(b"\r\n")
    return b"".join(parts)


class Reader:
    """Parses replies out of a byte source.

    `receive` returns the next bytes, b"" at the end of the stream. Bytes are pulled as needed, so a reply of
    any size is read in one pass.
    """

    def __init__(self, receive):
        self._receive = receive
        self._buffer = bytearray()
        self._position = 0

    def has_buffered(self):
        return self._position < len(self._buffer)

    def _pull(self):
        if self._position > 65536:
            del self._buffer[: self._position]
            self._position = 0
        data = self._receive()
        if not data:
            raise EOFError("the server closed the connection")
        self._buffer += data

    def read_line(self):
        scanned = self._position
        while True:
            end = self._buffer.find(b"\r\n", scanned)
            if end >= 0:
                line = bytes(self._buffer[self._position : end])
                self._position = end + 2
                return line
            unread = len(self._buffer) - self._position
            self._pull()
            scanned = max(self._position, self._position + unread - 1)

    def read_exactly(self, length):
        while len(self._buffer) - self._position < length:
            self._pull()
        with memoryview(self._buffer) as view:
            data = bytes(view[self._position : self._position + length])
        self._position += length
        return data

    def read_available(self):
        """What is buffered, or else what the next receive brings."""
        if not self.has_buffered():
            self._pull()
        return self.read_exactly(len(self._buffer) - self._position)

    def _read_blob(self, length):
        data = self.read_exactly(length + 2)
        if data[-2:] != b"\r\n":
            raise ProtocolError(f"a blob of {length} bytes does not end in CR LF")
        return data[:-2]

    def _read_items(self, count):
        return [self.read_reply() for _ in range(count)]

    def _read_pairs(self, count):
        return [(self.read_reply(), self.read_reply()) for _ in range(count)]

    def read_reply(self):
        line = self.read_line()
        if not line:
            raise ProtocolError("an empty line where a reply should be")
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return _FREQUENT_SIMPLE.get(rest) or Simple(rest)
        if kind == b"$":
            length = int(rest)
            return self._read_blob(length) if length >= 0 else NULL_BULK
        if kind == b":":
            return int(rest)
        if kind == b"-":
            return ErrorReply(rest)
        if kind == b"*":
            count = int(rest)
            return self._read_items(count) if count >= 0 else NULL_ARRAY
        if kind == b"_":
            return NULL
        if kind == b"%":
            return Map(self._read_pairs(int(rest)))
        if kind == b"~":
            return SetReply(self._read_items(int(rest)))
        if kind == b",":
            return Double(rest)
        if kind == b"#":
            if rest not in (b"t", b"f"):
                raise ProtocolError(f"not a boolean: {line!r}")
            return Boolean(rest == b"t")
        if kind == b"(":
            return BigNumber(int(rest))
        if kind == b"=":
            text = self._read_blob(int(rest))
            return Verbatim((text[:3], text[4:]))
        if kind == b">":
            return Push(self._read_items(int(rest)))
        if kind == b"!":
            return ErrorReply(self._read_blob(int(rest)))
        if kind == b"|":
            attributes = Map(self._read_pairs(int(rest)))
            return Attributed((attributes, self.read_reply()))
        raise ProtocolError(f"not a reply: {line[:80]!r}")
