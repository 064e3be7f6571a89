"""Running terrace-bench, and a small server whose faults it should notice."""

import os
import socketserver
import threading
import time

from support.server import TOP, server_program


def bench_program():
    """The one of TERRACE_TEST_BENCH, or of the same build as the server, or of the release; None if there is none."""
    named = os.environ.get("TERRACE_TEST_BENCH")
    beside = os.path.join(os.path.dirname(server_program()), "terrace-bench")
    release = os.path.join(TOP, "build", "release", "terrace-bench")
    return next((path for path in (named, beside, release) if path and os.access(path, os.X_OK)), None)


class FaultyServer(socketserver.ThreadingTCPServer):
    """A store of GET, SET, DBSIZE and INFO.

    It can lose every n-th write, spoil the value of one key, hang up after a number of writes, and do nothing
    for a while, from a number of reads after the n-th INFO on. Use it as a context manager.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, lose_every=0, spoil=b"", hang_up_after=0, stall_seconds=0.0, stall_infos=0, stall_reads=0,
                 info=b"used_memory:1000\r\n"):
        self.lose_every, self.spoil, self.hang_up_after = lose_every, spoil, hang_up_after
        self.stall_seconds, self.stall_infos, self.stall_reads = stall_seconds, stall_infos, stall_reads
        self.info = info
        self.data, self.reads, self.writes, self.infos = {}, 0, 0, 0
        self.resume_at = 0.0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Connection)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def port(self):
        return self.server_address[1]

    def close(self):
        self.shutdown()
        self.server_close()
        self.thread.join()

    def set(self, key, value):
        self.writes += 1
        if not self.lose_every or self.writes % self.lose_every:
            self.data[key] = value[:-1] + bytes([value[-1] ^ 1]) if key == self.spoil else value
        return b"+OK\r\n"

    def get(self, key):
        if self.stall_infos and self.infos >= self.stall_infos:
            self.reads += 1
            if self.reads == self.stall_reads:
                self.resume_at = time.monotonic() + self.stall_seconds
        value = self.data.get(key)
        return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)

    def answer(self, words):
        name = words[0].upper()
        if name == b"SET":
            return self.set(words[1], words[2])
        if name == b"GET":
            return self.get(words[1])
        if name == b"DBSIZE":
            return b":%d\r\n" % len(self.data)
        if name == b"INFO":
            self.infos += words[1:] != [b"tier"]  # which is asked beside each of the others
            return b"$%d\r\n%s\r\n" % (len(self.info), self.info)
        return b"-ERR unknown command\r\n"


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def read_words(self):
        line = self.rfile.readline()
        if not line:
            return None
        words = []
        for _ in range(int(line[1:])):
            length = int(self.rfile.readline()[1:])
            words.append(self.rfile.read(length + 2)[:-2])
        return words

    def handle(self):
        store = self.server
        try:
            while (words := self.read_words()) is not None:
                with store.lock:
                    if store.hang_up_after and store.writes >= store.hang_up_after:
                        return
                    reply = store.answer(words)
                    wait = store.resume_at - time.monotonic()
                    if wait > 0:
                        time.sleep(wait)  # this is the fault, not a wait for something
                self.wfile.write(reply)
        except OSError:
            pass
