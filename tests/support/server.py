"""Starting and stopping a server under test: Terrace, or any redis-server.

The server gets a directory of its own, removed afterwards whatever happens, and a free port. It counts as
started when it says so in its log, and as stopped when its process is gone; nothing here sleeps and hopes.
The environment chooses what is tested:

    TERRACE_TEST_SERVER   the program (default: build/release/terrace-server)
    TERRACE_TEST_ARGS     arguments put before those of the test, for example `--threads 4`
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from support.client import Client

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
READY = b"eady to accept connections"
NO_BASE = b"Writing initial AOF, can't exit"
START_ATTEMPTS = 5
_ports = []  # sockets that keep the ports given out
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
SANITIZER_MARKS = (b"ERROR: AddressSanitizer", b"WARNING: ThreadSanitizer", b"ERROR: LeakSanitizer", b"runtime error:")


class StartError(Exception):
    """The server ended before it was ready; the message holds what it said."""


def server_program():
    return os.environ.get("TERRACE_TEST_SERVER") or os.path.join(TOP, "build", "release", "terrace-server")


def is_redis(program=None):
    return os.path.basename(program or server_program()).startswith("redis")


def find_free_port():
    """A port that is this process's until it ends, also while a server on it is away: the socket that keeps it never
    listens, which leaves it to servers (they set SO_REUSEADDR) and to nobody who looks for any port."""
    keeper = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    _ports.append(keeper)
    return keeper.getsockname()[1]


def _without_threads(arguments):
    """Drops what redis-server does not know."""
    kept = list(arguments)
    while "--threads" in kept:
        position = kept.index("--threads")
        del kept[position : position + 2]
    return kept


def _command_line(chosen, arguments):
    """`chosen` is the program a test named, or None for the one under test."""
    program = chosen or server_program()
    extra = [] if chosen else shlex.split(os.environ.get("TERRACE_TEST_ARGS", ""))
    arguments = [str(argument) for argument in arguments]
    if is_redis(program):
        extra, arguments = _without_threads(extra), _without_threads(arguments)
    # These are only understood alone.
    if arguments[:1] in (["--help"], ["--version"]):
        return [program, *arguments]
    # A configuration file, or the `-` of standard input, has to stay first.
    if arguments and not arguments[0].startswith("--"):
        return [program, arguments[0], *extra, *arguments[1:]]
    return [program, *extra, *arguments]


def _dies_with_us(command):
    """Should the test be killed, its servers go with it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


def _environment(extra):
    environment = dict(os.environ)
    environment.setdefault("ASAN_OPTIONS", "abort_on_error=0:detect_leaks=1:allocator_may_return_null=1")
    environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    environment.setdefault("TSAN_OPTIONS", "halt_on_error=0:exitcode=66:history_size=4")
    environment.update(extra or {})
    return environment


def run_to_exit(*arguments, program=None, stdin=b"", directory=None, environment=None, timeout=60):
    """Runs the server with arguments under which it should end by itself: (exit code, stdout, stderr).

    Needed to look at a start that cannot work. A server that does not end is stopped and raises
    subprocess.TimeoutExpired.
    """
    with tempfile.TemporaryDirectory(prefix="terrace-test-") as own_directory:
        done = subprocess.run(
            _dies_with_us(_command_line(program, arguments)),
            input=stdin,
            capture_output=True,
            cwd=directory or own_directory,
            env=_environment(environment),
            timeout=timeout,
            check=False,
        )
    return done.returncode, done.stdout, done.stderr


class Server:
    """A running server. Use it as a context manager, or call stop() in any case."""

    def __init__(
        self, *arguments, program=None, port=None, environment=None, config=None, stdin=None, directory=None
    ):
        """`port` 0 means no TCP at all; `config` is the path of a configuration file, or "-" for `stdin`. A `directory`
        of the caller's is used instead of one of its own, and kept."""
        self.program = program
        self._keeps_directory = directory is not None
        self.directory = directory or tempfile.mkdtemp(prefix="terrace-test-")
        self.process = None
        self.exit_code = None
        self._arguments = [str(argument) for argument in arguments]
        self._environment = environment
        self._stdin = stdin
        self._log = bytearray()
        self._log_grew = threading.Condition()
        self._log_ended = False
        try:
            self._start(port, [config] if config else [])
        except BaseException:
            self.stop(check=False)
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        # An exception on its way is the news; the state of the server after it is not.
        self.stop(check=kind is None)

    # -- starting ------------------------------------------------------------------------------------------

    def _start(self, port, config):
        attempts = 1 if port is not None else START_ATTEMPTS
        for attempt in range(1, attempts + 1):
            self.port = port if port is not None else find_free_port()
            defaults = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.directory, "--save", ""]
            self._launch(config + defaults + self._arguments)
            if self.wait_for_log(READY, START_TIMEOUT_S, needed=False):
                return
            said = self.output_text()
            self.kill()
            if attempt == attempts or "ddress already in use" not in said:
                raise StartError(f"{self.program or server_program()} did not start:\n{said}")

    def _launch(self, arguments):
        self._log = bytearray()
        self._log_ended = False
        self._stderr_path = os.path.join(self.directory, ".stderr")
        with open(self._stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(
                _dies_with_us(_command_line(self.program, arguments)),
                stdin=subprocess.PIPE if self._stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=self.directory,
                env=_environment(self._environment),
            )
        if self._stdin is not None:
            self.process.stdin.write(self._stdin)
            self.process.stdin.close()
        self._log_reader = threading.Thread(target=self._collect_log, args=(self.process.stdout,), daemon=True)
        self._log_reader.start()

    def _collect_log(self, stream):
        while True:
            data = os.read(stream.fileno(), 65536)
            with self._log_grew:
                self._log += data
                self._log_ended = not data
                self._log_grew.notify_all()
            if not data:
                return

    # -- looking -------------------------------------------------------------------------------------------

    @property
    def pid(self):
        return self.process.pid

    def log_text(self):
        with self._log_grew:
            return bytes(self._log).decode("utf-8", "backslashreplace")

    def stderr_text(self):
        with open(self._stderr_path, "rb") as file:
            return file.read().decode("utf-8", "backslashreplace")

    def output_text(self):
        """Log and standard error, for messages."""
        return (self.log_text()[-4000:] + self.stderr_text()[-8000:]).strip()

    def wait_for_log(self, text, timeout=START_TIMEOUT_S, needed=True):
        """Waits until the log holds `text`; False (or an AssertionError) if it never will."""
        wanted = text.encode() if isinstance(text, str) else text
        with self._log_grew:
            self._log_grew.wait_for(lambda: wanted in self._log or self._log_ended, timeout)
            found = wanted in self._log
        if needed and not found:
            raise AssertionError(f"the log never said {text!r}:\n{self.output_text()}")
        return found

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_resident_bytes(self):
        """The most it ever was, as the kernel kept it: also what lasted for less than anybody could have seen."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:"))

    def client(self, **options):
        return Client(port=self.port, **options)

    # -- stopping ------------------------------------------------------------------------------------------

    def signal(self, number):
        self.process.send_signal(number)

    def wait_for_exit(self, timeout=STOP_TIMEOUT_S):
        """Waits for the process to end by itself and returns its exit code."""
        self.exit_code = self.process.wait(timeout)
        self._log_reader.join(timeout)
        return self.exit_code

    def kill(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log_reader.join(10)
        self.process.stdout.close()
        self.process = None

    def stop(self, check=True):
        """Ends the server and removes its files. With `check`, an end that is not clean is an AssertionError."""
        complaint = None
        try:
            if self.process is not None:
                complaint = self._stop_process() if check else None
        finally:
            self.kill()
            if not self._keeps_directory:
                shutil.rmtree(self.directory, ignore_errors=True)
        if complaint:
            raise AssertionError(complaint)

    def _terminate(self):
        """SIGTERM; again as often as it is refused because the first base of an append-only file is written, which a
        replica does after each full copy."""
        deadline, refused = time.monotonic() + STOP_TIMEOUT_S, self._log.count(NO_BASE)
        while self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with self._log_grew:
                self._log_grew.wait_for(
                    lambda: self._log_ended or self._log.count(NO_BASE) > refused, deadline - time.monotonic()
                )
                if self._log.count(NO_BASE) == refused:
                    return
                refused = self._log.count(NO_BASE)

    def _stop_process(self):
        if self.exit_code is None:
            self._terminate()
            try:
                self.wait_for_exit()
            except subprocess.TimeoutExpired:
                return f"the server did not end within {STOP_TIMEOUT_S} s of SIGTERM:\n{self.output_text()}"
            if self.exit_code != 0:
                return f"the server ended with {self.exit_code} instead of 0:\n{self.output_text()}"
        with open(self._stderr_path, "rb") as file:
            stderr = file.read()
        if any(mark in stderr for mark in SANITIZER_MARKS):
            return "a sanitizer complained:\n" + stderr.decode("utf-8", "backslashreplace")[:12000]
        return None
