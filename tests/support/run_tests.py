"""Runs the *_test.py files below the given directories, each file in a process of its own.

    run_tests.py [--only PATTERN] [--marked MARK] [--jobs N] [--counts FILE] DIRECTORY...

PATTERN is a part of `directory/file.Class.test_name`. A test that does not end in time takes its process
down with the stacks of all threads, and counts as failed.
"""

import argparse
import concurrent.futures
import faulthandler
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

SUPPORT = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(SUPPORT)
sys.path.insert(0, TESTS)

from support.counts import add_counts, describe_counts  # noqa: E402

TEST_TIMEOUT_S = 900
LONG_TEST_TIMEOUT_S = 1800
REPORT_LINES_MAX = 400


class PrintingResult(unittest.TestResult):
    """Prints a line per test as it ends, and counts."""

    def __init__(self, file_name, limit_s):
        super().__init__()
        self.file_name = file_name
        self.limit_s = limit_s
        self.passed = 0
        self.failed = 0
        self.outcome = None
        self.started = 0.0

    def startTest(self, test):
        super().startTest(test)
        self.outcome = None
        self.started = time.monotonic()
        faulthandler.dump_traceback_later(self.limit_s, exit=True)

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        if self.outcome == "FAIL":
            self.failed += 1
        elif self.outcome is None:
            self.passed += 1
        word = self.outcome or "ok"
        print(f"{word:4} {self.name(test)} ({time.monotonic() - self.started:.2f} s)", flush=True)

    def name(self, test):
        return f"{self.file_name}.{test.id().split('.', 1)[-1]}"

    def report(self, test, error):
        text = self._exc_info_to_string(error, test)
        lines = text.splitlines()
        if len(lines) > REPORT_LINES_MAX:
            lines[REPORT_LINES_MAX // 2 : -REPORT_LINES_MAX // 2] = ["..."]
        print("".join(f"     {line[:2000]}\n" for line in lines), end="", flush=True)
        # A fixture of a class or file has no startTest of its own.
        if isinstance(test, unittest.TestCase):
            self.outcome = "FAIL"
        else:
            self.failed += 1
            print(f"FAIL {self.file_name}: {test.id()}", flush=True)

    def addError(self, test, err):
        self.report(test, err)

    def addFailure(self, test, err):
        self.report(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            print(f"     in {subtest._subDescription()}:")
            self.report(test, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.outcome = "skip"
        print(f"     skipped: {reason}")

    def addUnexpectedSuccess(self, test):
        self.outcome = "FAIL"


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def has_mark(test, mark):
    method = getattr(test, test._testMethodName, None)
    return getattr(method, mark, False) or getattr(type(test), mark, False)


def run_file(path, options):
    """Inside the child: runs the tests of one file, writes the counts to the result file."""
    long_run = os.environ.get("TERRACE_TEST_LONG") == "1"
    file_name = os.path.splitext(os.path.relpath(path, TESTS))[0]
    module_name = os.path.basename(file_name)
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)

    result = PrintingResult(file_name, LONG_TEST_TIMEOUT_S if long_run else TEST_TIMEOUT_S)
    chosen = unittest.TestSuite()
    for test in flatten(unittest.defaultTestLoader.loadTestsFromModule(module)):
        if options.only and options.only not in result.name(test):
            continue
        if options.marked and not has_mark(test, f"marked_{options.marked}"):
            continue
        if has_mark(test, "marked_long") and not long_run:
            continue
        chosen.addTest(test)
    chosen.run(result)
    with open(options.result, "w", encoding="ascii") as file:
        json.dump([result.passed, result.failed, len(result.skipped)], file)


def run_in_child(path, options):
    """(counts, output) of one file. A child that dies counts as one failure."""
    with tempfile.TemporaryDirectory(prefix="terrace-run-") as directory:
        result_path = os.path.join(directory, "result")
        command = [sys.executable, os.path.abspath(__file__), "--file", path, "--result", result_path]
        if options.only:
            command += ["--only", options.only]
        if options.marked:
            command += ["--marked", options.marked]
        environment = dict(os.environ, PYTHONPATH=TESTS, PYTHONDONTWRITEBYTECODE="1", TMPDIR=directory)
        child = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                               env=environment, check=False)
        output = child.stdout.decode("utf-8", "backslashreplace")
        try:
            with open(result_path, encoding="ascii") as file:
                return json.load(file), output
        except (OSError, ValueError):
            name = os.path.splitext(os.path.relpath(path, TESTS))[0]
            passed = sum(line.startswith("ok   ") for line in output.splitlines())
            failed = sum(line.startswith("FAIL ") for line in output.splitlines())
            skipped = sum(line.startswith("skip ") for line in output.splitlines())
            end = f"FAIL {name}: its process ended with {child.returncode} before all tests were done\n"
            return [passed, failed + 1, skipped], output + end


def find_files(directories):
    for directory in directories:
        for folder, _, names in sorted(os.walk(os.path.join(TESTS, directory))):
            if "node_modules" not in folder:
                yield from (os.path.join(folder, name) for name in sorted(names) if name.endswith("_test.py"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--marked", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--counts", default="")
    parser.add_argument("--file", help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    parser.add_argument("directories", nargs="*")
    options = parser.parse_args()
    if options.file:
        run_file(options.file, options)
        return 0

    totals = [0, 0, 0]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        work = [pool.submit(run_in_child, path, options) for path in find_files(options.directories)]
        for done in concurrent.futures.as_completed(work):
            counts, output = done.result()
            print(output, end="", flush=True)
            totals = [total + count for total, count in zip(totals, counts)]
    add_counts(options.counts, *totals)
    print(f"{' '.join(options.directories)}: {describe_counts(*totals)}", flush=True)
    return 1 if totals[1] else 0


if __name__ == "__main__":
    sys.exit(main())
