"""Runs the unit tests of a build and counts the cmocka tests in them, not the programs.

    run_units.py [--only PATTERN] [--label LABEL] [--counts FILE] BUILD_DIRECTORY

The list of programs and their labels is what tests/CMakeLists.txt wrote. A program that dies (an assert, a
sanitizer) makes the test it was in a failed one.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support.counts import add_counts, describe_counts  # noqa: E402

PROGRAM_TIMEOUT_S = 1200
LINE = re.compile(r"^\[\s*(OK|FAILED|ERROR|SKIPPED)\s*\] (\w\S*)")
SUMMARY = re.compile(r"^\[\s*(PASSED|FAILED|SKIPPED)\s*\] \d+ test")


def read_list(build, only, label):
    with open(os.path.join(build, "tests", "unit_tests.txt"), encoding="utf-8") as file:
        for line in file:
            name, *labels = line.split()
            if only in f"unit/{name}" and (not label or label in labels):
                yield name


def parse_output(text):
    """Names of the tests by outcome."""
    outcome = {"OK": set(), "FAILED": set(), "SKIPPED": set()}
    for line in text.splitlines():
        found = LINE.match(line)
        if found and not SUMMARY.match(line):
            word = "FAILED" if found.group(1) == "ERROR" else found.group(1)
            outcome[word].add(found.group(2).rstrip(":"))
    return outcome


def run_program(build, name):
    """(passed, failed, skipped, what to print) of one program."""
    environment = dict(os.environ)
    environment.setdefault("ASAN_OPTIONS", "detect_leaks=1:allocator_may_return_null=1")
    environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    environment.setdefault("TSAN_OPTIONS", "exitcode=66")
    started = time.monotonic()
    try:
        done = subprocess.run([os.path.join(build, "tests", "unit", name)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                              timeout=PROGRAM_TIMEOUT_S, check=False)
        text, code = done.stdout.decode("utf-8", "backslashreplace"), done.returncode
    except subprocess.TimeoutExpired as late:
        text = (late.stdout or b"").decode("utf-8", "backslashreplace")
        code = f"no end after {PROGRAM_TIMEOUT_S} s"
    except OSError as error:
        text, code = str(error), "no start"
    outcome = parse_output(text)
    failed = len(outcome["FAILED"])
    if code != 0 and failed == 0:
        failed = 1
    passed = len(outcome["OK"] - outcome["FAILED"])
    skipped = len(outcome["SKIPPED"])
    word = "FAIL" if failed else "ok"
    line = f"{word:4} unit/{name}: {describe_counts(passed, failed, skipped)} ({time.monotonic() - started:.2f} s)\n"
    if failed:
        line = "".join(f"     {row}\n" for row in text.splitlines()[-200:]) + f"     exit: {code}\n" + line
    return passed, failed, skipped, line


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--label", default="")
    parser.add_argument("--counts", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("build")
    options = parser.parse_args()
    totals = [0, 0, 0]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        names = read_list(options.build, options.only, options.label)
        for done in concurrent.futures.as_completed([pool.submit(run_program, options.build, name) for name in names]):
            *counts, text = done.result()
            print(text, end="", flush=True)
            totals = [total + count for total, count in zip(totals, counts)]
    add_counts(options.counts, *totals)
    print(f"unit: {describe_counts(*totals)}", flush=True)
    return 1 if totals[1] else 0


if __name__ == "__main__":
    sys.exit(main())
