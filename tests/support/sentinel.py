"""Debian's redis-sentinel, which watches servers and promotes a replica when their primary dies."""

import os
import shutil
import signal
import subprocess
import tempfile

from support.client import Client
from support.server import find_free_port

PROGRAM = shutil.which("redis-sentinel") or shutil.which("redis-server")


class Sentinel:
    """One of them, watching the primary at `port` under the name "mine"."""

    def __init__(self, port, quorum=2, down_after_ms=1000):
        self.directory = tempfile.mkdtemp(prefix="terrace-sentinel-")
        self.port = find_free_port()
        path = os.path.join(self.directory, "sentinel.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\nlogfile {self.directory}/log\n"
                f"sentinel monitor mine 127.0.0.1 {port} {quorum}\n"
                f"sentinel down-after-milliseconds mine {down_after_ms}\n"
                "sentinel failover-timeout mine 5000\n"
            )
        self.process = subprocess.Popen([PROGRAM, path, "--sentinel"], stdout=subprocess.DEVNULL)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, *words):
        """The reply; None while it does not answer."""
        try:
            with Client(port=self.port) as client:
                return client.command("SENTINEL", *words)
        except OSError:
            return None

    def primary_port(self):
        address = self.ask("GET-MASTER-ADDR-BY-NAME", "mine")
        return int(address[1]) if isinstance(address, list) else None

    def is_tilted(self):
        """Its clock or its disk has stood still, and for half a minute it does nothing."""
        try:
            with Client(port=self.port) as client:
                return client.info("sentinel").get("sentinel_tilt") != "0"
        except OSError:
            return True

    def sees(self, replicas, sentinels):
        """It has found so many replicas, whose links are up, and so many others of its kind, and can act."""
        if self.is_tilted():
            return False
        found = self.ask("REPLICAS", "mine")
        others = self.ask("SENTINELS", "mine")
        if not isinstance(found, list) or not isinstance(others, list):
            return False
        states = [dict(zip(words[::2], words[1::2])) for words in found]
        up = [state for state in states if state.get(b"master-link-status") == b"ok"]
        return len(up) >= replicas and len(others) >= sentinels

    def log(self):
        with open(os.path.join(self.directory, "log"), encoding="utf-8") as file:
            return file.read()
