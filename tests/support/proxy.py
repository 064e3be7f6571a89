"""A TCP proxy between two servers, which can lose the link wherever a test wants it to.

It delays and cuts, at any byte and in either direction, and never changes or drops a byte of what it lets through: what
arrives is always a beginning of what was sent.
"""

import selectors
import socket
import threading
import time

PIECE_BYTES = 64 * 1024


class _Link:
    """One connection through the proxy."""

    def __init__(self, near, far):
        self.near, self.far = near, far
        self.allowed = {near: None, far: None}  # bytes that may still come from there; None: any number

    def other(self, one):
        return self.far if one is self.near else self.near

    def close(self):
        for one in (self.near, self.far):
            one.close()


class Proxy:
    """Listens on `port` and connects each who comes to `target`. Use it as a context manager."""

    def __init__(self, target):
        self.target = target
        self.delay_s = 0.0
        self.links_made = 0
        self._refuses = False
        self._cut_next = {}
        self._lock = threading.Lock()
        self._links = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # -- what a test may do --------------------------------------------------------------------------------

    def cut(self):
        """All connections end now."""
        with self._lock:
            for link in set(self._links.values()):
                self._drop(link)

    def refuse(self, refuses=True):
        """New connections are closed at once, as if nobody were there."""
        with self._lock:
            self._refuses = refuses

    def cut_next_after(self, from_target=None, to_target=None):
        """The next connection ends after so many bytes from the target, or to it."""
        with self._lock:
            self._cut_next = {"far": from_target, "near": to_target}

    def cut_after(self, from_target):
        """The present connections end after so many bytes more from the target."""
        with self._lock:
            for link in set(self._links.values()):
                link.allowed[link.far] = from_target

    def stop(self):
        self._ending = True
        self._waker.send(b"x")
        self._thread.join(10)
        self.cut()
        for one in (self._listener, self._wake, self._waker):
            one.close()
        self._selector.close()

    # -- the thread ----------------------------------------------------------------------------------------

    def _drop(self, link):
        for one in (link.near, link.far):
            if self._links.pop(one, None):
                self._selector.unregister(one)
        link.close()

    def _accept(self):
        near, _ = self._listener.accept()
        with self._lock:
            refuses, limits, self._cut_next = self._refuses, self._cut_next, {}
        if refuses:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self.target), timeout=10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(near, far)
        link.allowed = {near: limits.get("near"), far: limits.get("far")}
        with self._lock:
            self.links_made += 1
            self._links[near] = self._links[far] = link
            for one in (near, far):
                self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, one):
        with self._lock:
            link = self._links.get(one)
            if not link:
                return
            allowed = link.allowed[one]
        try:
            data = one.recv(PIECE_BYTES if allowed is None else max(1, min(PIECE_BYTES, allowed)))
        except OSError:
            data = b""
        if self.delay_s:
            time.sleep(self.delay_s)
        over = False
        if allowed is not None:
            data = data[:allowed]
            link.allowed[one] = allowed - len(data)
            over = link.allowed[one] == 0
        try:
            if data:
                link.other(one).sendall(data)
        except OSError:
            over = True
        if over or not data:
            with self._lock:
                if one in self._links:
                    self._drop(link)

    def _run(self):
        while not self._ending:
            for key, _ in self._selector.select(timeout=1.0):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is not self._wake:
                    self._pass_on(key.fileobj)
