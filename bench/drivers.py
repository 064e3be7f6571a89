"""Loads that terrace-bench cannot make, because the replies go to other connections than the requests.

Both work in rounds of sixteen requests in one write, as the other rows do, and end a round when everything it caused
has arrived; so a server is never ahead of those who read, and the count of operations is exact. They run in the process of
bench/compare, on the CPU of the load. Python is slower than the server, which makes rates meaningless; server CPU per
operation is what is asked.
"""

import contextlib
import select
import socket
import time

from peers import MeasureError

PIPELINE = 16
SUBSCRIBERS = 100
CONSUMERS = 32
WAIT_SECONDS = 30
READ_BYTES = 1 << 18


def encode(*words):
    words = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


@contextlib.contextmanager
def sockets(server, count):
    opened = []
    try:
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_SECONDS)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.append(one)
        yield opened
    finally:
        for one in opened:
            one.close()


def read_some(one):
    data = one.recv(READ_BYTES)
    if not data:
        raise MeasureError("the server closed the connection")
    return data


def read_exactly(one, length):
    data = b""
    while len(data) < length:
        data += read_some(one)
        if data.startswith(b"-"):
            raise MeasureError(f"the server answered {data[:80]!r}")
    return data


class Readers:
    """Connections whose bytes are only counted."""

    def __init__(self, opened):
        self.poll = select.epoll()
        self.by_descriptor = {one.fileno(): one for one in opened}
        for descriptor in self.by_descriptor:
            self.poll.register(descriptor, select.EPOLLIN)

    def close(self):
        self.poll.close()

    def ready(self):
        events = self.poll.poll(WAIT_SECONDS)
        if not events:
            raise MeasureError(f"no message in {WAIT_SECONDS} s")
        return [self.by_descriptor[descriptor] for descriptor, _ in events]


def publish(server, count):
    """`count` messages of 32 bytes, each to SUBSCRIBERS connections. An operation is a PUBLISH."""
    payload = "x" * 32
    message = encode("message", "news", payload)
    answer = b":%d\r\n" % SUBSCRIBERS
    rounds = max(1, count // PIPELINE)
    request = encode("PUBLISH", "news", payload) * PIPELINE
    with sockets(server, SUBSCRIBERS) as subscribers, sockets(server, 1) as publishers:
        greeting = encode("subscribe", "news", "1")[: -len("$1\r\n1\r\n")] + b":1\r\n"
        for one in subscribers:
            one.sendall(encode("SUBSCRIBE", "news"))
            if read_exactly(one, len(greeting)) != greeting:
                raise MeasureError("SUBSCRIBE was answered otherwise")
        started = time.monotonic()
        with contextlib.closing(Readers(subscribers)) as readers:
            for _ in range(rounds):
                publishers[0].sendall(request)
                left = SUBSCRIBERS * PIPELINE * len(message)
                while left > 0:
                    left -= sum(len(read_some(one)) for one in readers.ready())
                if left != 0 or read_exactly(publishers[0], len(answer) * PIPELINE) != answer * PIPELINE:
                    raise MeasureError("PUBLISH did not reach every subscriber once")
        return {"operations": rounds * PIPELINE, "seconds": time.monotonic() - started}


def hand_over(server, count):
    """`count` elements, each pushed to a list that consumers wait for. An operation is a BLPOP and its LPUSH.

    A consumer sends sixteen BLPOP in one write and waits for all of them; there are always many more waiting than a
    round pushes, so elements are handed over and hardly ever lie in the list.
    """
    payload = "x" * 32
    element = encode("queue", payload)
    batch = encode("BLPOP", "queue", "0") * PIPELINE
    pushes = encode("LPUSH", "queue", payload) * PIPELINE
    rounds = max(1, count // PIPELINE)
    with sockets(server, CONSUMERS) as consumers, sockets(server, 1) as producers:
        received = dict.fromkeys(consumers, 0)
        for one in consumers:
            one.sendall(batch)
        started = time.monotonic()
        with contextlib.closing(Readers(consumers)) as readers:
            for _ in range(rounds):
                producers[0].sendall(pushes)
                left = PIPELINE * len(element)
                while left > 0:
                    for one in readers.ready():
                        got = len(read_some(one))
                        left -= got
                        received[one] += got
                        if received[one] == PIPELINE * len(element):
                            received[one] = 0
                            one.sendall(batch)
                if left != 0:
                    raise MeasureError("BLPOP was answered otherwise")
                read_pushes(producers[0])
        return {"operations": rounds * PIPELINE, "seconds": time.monotonic() - started}


def read_pushes(producer):
    """The lengths that LPUSH answers are of no fixed number of digits: sixteen lines, none an error."""
    data = b""
    while data.count(b"\r\n") < PIPELINE:
        data += read_some(producer)
    if b"-" in data:
        raise MeasureError(f"LPUSH was answered {data[:80]!r}")
