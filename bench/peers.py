"""The servers that bench/compare measures, and what is read of them.

A server is started in a directory of its own, pinned to one CPU, on a free port, and stopped by its process id. Its
CPU time comes from the scheduler's nanosecond counters of all its threads, its memory from /proc/PID/status.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

START_TIMEOUT_SECONDS = 15
STOP_TIMEOUT_SECONDS = 20
PR_SET_PDEATHSIG = 1

# What each peer is started with beside its port; "{directory}" is its own, removed afterwards.
PEER_OPTIONS = {
    "redis": ["--bind", "127.0.0.1", "--dir", "{directory}", "--save", "", "--appendonly", "no"],
    "terrace": ["--threads", "1", "--save", ""],
    "floor": [],
}


class MeasureError(Exception):
    """A measurement that cannot be made; the text is one line for the user."""


class RespError(Exception):
    """An error reply."""


class RespClient:
    """One blocking connection, enough of RESP2 to ask for counts and configuration."""

    def __init__(self, port, timeout=30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def close(self):
        self.stream.close()
        self.socket.close()

    def command(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(request)
        return self._read()

    def _read(self):
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise MeasureError("the server closed the connection")
        kind, text = line[:1], line[1:-2]
        if kind == b"+":
            return text.decode()
        if kind == b"-":
            raise RespError(text.decode(errors="replace"))
        if kind == b":":
            return int(text)
        if kind == b"$":
            length = int(text)
            return None if length < 0 else self.stream.read(length + 2)[:-2]
        if kind == b"*":
            return [self._read() for _ in range(int(text))]
        raise MeasureError(f"unexpected reply {line[:40]!r}")


def _prepare_child(cpu, nice, realtime=False):
    """Runs in the child between fork and exec: pinned to a CPU or a set of them, and gone when this program is."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, cpu if isinstance(cpu, set) else {cpu})
    if nice != 0:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        # Where the kernel groups tasks by session, priority counts within the session only, unless it has one itself.
        with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as file:
            file.write(str(nice))
    if realtime:
        # A prober that shares its CPU with the load must be scheduled when its reply is there, or it measures the load.
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running server process; use as a context manager."""

    def __init__(self, name, arguments, cpu, nice, directory, keep=None):
        """`arguments` is a list in which "{port}" and "{directory}" are filled in. `keep`: a directory of the caller's to
        be used instead of one of its own."""
        self.name = name
        self.port = free_port()
        self.keeps_directory = keep is not None
        self.directory = keep or tempfile.mkdtemp(prefix=name + "-", dir=directory)
        self.started = time.monotonic()
        self.log_path = os.path.join(self.directory, "log")
        words = [word.format(port=self.port, directory=self.directory) for word in arguments]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                words,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: _prepare_child(cpu, nice),
            )
        self.pid = self.process.pid

    def __enter__(self):
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise MeasureError(f"{self.name} exited at start: {self.last_log_line()}")
            try:
                client = RespClient(self.port, timeout=2)
                with contextlib.closing(client):
                    client.command("PING")
                return
            except (OSError, RespError) as answer:
                if str(answer).startswith("LOADING"):
                    return  # whoever started it knows what it loads
                time.sleep(0.02)
        raise MeasureError(f"{self.name} does not answer on port {self.port}: {self.last_log_line()}")

    def last_log_line(self):
        with open(self.log_path, errors="replace") as log:
            lines = [line.strip() for line in log if line.strip()]
        return lines[-1] if lines else "it printed nothing"

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if not self.keeps_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self):
        """As a crash would end it."""
        self.process.kill()
        self.process.wait()

    def check_alive(self):
        if self.process.poll() is not None:
            raise MeasureError(f"{self.name} died (status {self.process.returncode}): {self.last_log_line()}")

    def client(self):
        return RespClient(self.port)

    def scheduled_ns(self):
        """(nanoseconds run, nanoseconds ready but waiting for a CPU) of all living threads; run is user + system."""
        self.check_alive()
        run = waited = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{task}/schedstat") as file:
                    fields = file.read().split()
            except FileNotFoundError:
                continue  # the thread ended meanwhile
            run += int(fields[0])
            waited += int(fields[1])
        if run == 0:
            raise MeasureError("the kernel keeps no scheduler statistics (/proc/PID/schedstat is all zeros)")
        return run, waited

    def _status_bytes(self, field):
        self.check_alive()
        with open(f"/proc/{self.pid}/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        raise MeasureError(f"/proc/{self.pid}/status has no {field}")

    def resident_bytes(self):
        return self._status_bytes("VmRSS")

    def resident_shared_memory_bytes(self):
        """Of these, pages of /dev/shm."""
        return self._status_bytes("RssShmem")

    def resident_peak_bytes(self):
        return self._status_bytes("VmHWM")

    def settled_resident_bytes(self, quiet_seconds=0.6, limit_seconds=6):
        """Resident bytes once they have not changed by more than 0.1 % for a while."""
        deadline = time.monotonic() + limit_seconds
        reference, since = self.resident_bytes(), time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < quiet_seconds:
            time.sleep(0.1)
            now = self.resident_bytes()
            if abs(now - reference) > reference / 1000:
                reference, since = now, time.monotonic()
        return self.resident_bytes()


class Load:
    """A terrace-bench process."""

    def __init__(self, program, server, arguments, cpu, nice, realtime=False):
        self.server = server
        words = [program, "load", "--port", str(server.port), "--json", "--quiet"] + list(arguments)
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: _prepare_child(cpu, nice, realtime),
        )

    def running(self):
        return self.process.poll() is None

    def finish(self, stop=False, errors_allowed=False):
        """Waits for the end (asks for it first, with `stop`) and returns the report."""
        if stop and self.running():
            self.process.send_signal(signal.SIGINT)
        try:
            output, problem = self.process.communicate()
        finally:
            self.abandon()
        if self.process.returncode != 0:
            self.server.check_alive()
            raise MeasureError(problem.strip() or f"terrace-bench ended with status {self.process.returncode}")
        report = json.loads(output)
        if report["errors"] and not errors_allowed:
            raise MeasureError(f"{self.server.name} answered {report['errors']} errors: {report['first_error']}")
        return report

    def abandon(self):
        if self.running():
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.abandon()


class Bench:
    """How to start the peers and the load: the paths, CPUs and priority of this run."""

    def __init__(self, programs, server_cpu, load_cpu, nice, directory):
        self.programs = programs
        self.nice = nice
        self.server_cpu = server_cpu
        self.load_cpu = load_cpu
        self.directory = directory

    def start(self, peer, options=(), cpus=None, keep=None):
        """`options` come behind the peer's own; `cpus` is a set, by default the server's CPU alone."""
        arguments = [self.programs[peer], "--port", "{port}", *PEER_OPTIONS[peer], *options]
        return Server(peer, arguments, cpus or self.server_cpu, self.nice, self.directory, keep)

    def load(self, server, arguments, realtime=False):
        return Load(self.programs["bench"], server, arguments, self.load_cpu, self.nice, realtime)

    def run(self, server, arguments, errors_allowed=False):
        with self.load(server, arguments) as load:
            return load.finish(errors_allowed=errors_allowed)
