"""The page of terrace-bench capacity, in a real browser."""

import html.parser
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from collections import Counter

from support.bench import bench_program
from support.case import ServerTest

QUICK = ("--seconds", "0.3", "--warmup", "0", "--settle", "0", "--connections", "4")
TIMEOUT_S = 600

# What a chart draws for a run, by the figure's name in the JSON.
FIGURES = ("closed_operations_per_second", "open_p50_us", "open_p99_us", "open_p99.9_us", "open_p99.99_us",
           "open_max_us", "bytes_per_key", "closed_cpu_us_per_operation", "load_payload_bytes_per_second")


def find_chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Elements(html.parser.HTMLParser):
    """All elements of a page, as (name, attributes), and its text."""

    def __init__(self, page):
        super().__init__()
        self.list, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.list.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def with_class(self, name):
        return [attributes for _, attributes in self.list if name in (attributes.get("class") or "").split()]


class Page(ServerTest):
    @classmethod
    def setUpClass(cls):
        if find_chromium() is None:
            raise unittest.SkipTest("chromium is not installed")
        if bench_program() is None:
            raise unittest.SkipTest("terrace-bench is not built")
        super().setUpClass()

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="terrace-test-", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def run_bench(self, *arguments):
        done = subprocess.run([bench_program(), "capacity", *arguments], capture_output=True, text=True,
                              timeout=TIMEOUT_S, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def measure(self, label, *arguments):
        self.run_bench("--port", str(self.server.port), "--flush", *QUICK, "--label", label,
                       "--json", self.path("r.json"), "--html", self.path("r.html"), *arguments)
        with open(self.path("r.json"), encoding="utf-8") as file:
            return json.load(file)

    def open_page(self, path, script=""):
        """The elements after the page's own scripts, and one of ours, have run; there must be no complaint."""
        with open(path, encoding="utf-8") as file:
            page = file.read()
        self.assertEqual(re.findall(r"(?:src|href)=\"(?!data:)[^\"]*", page), [], "the page needs something else")
        if script:
            path = self.path("scripted.html")
            with open(path, "w", encoding="utf-8") as file:
                file.write(page.replace("</body>", f"<script>{script}</script></body>"))
        done = subprocess.run(
            [find_chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
             f"--user-data-dir={self.path('profile')}", "--window-size=1280,1600", "--virtual-time-budget=3000",
             "--dump-dom", f"file://{path}"],
            capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        self.assertEqual(complaints, [])
        return Elements(done.stdout)

    def assert_points(self, elements, runs, figures):
        """There is a mark for each number of the reports, with its value, and no other."""
        drawn = Counter((int(mark["data-run"]), mark["data-figure"], float(mark["data-value"]))
                        for mark in elements.with_class("mark") if mark.get("data-figure") in figures)
        wanted = Counter((number, figure, float(step[figure]))
                         for number, run in enumerate(runs) for step in run["steps"] for figure in figures
                         if step.get(figure) is not None)
        self.assertGreater(len(wanted), 0)
        self.assertEqual(drawn, wanted)

    def test_a_run_is_drawn_as_its_json_says(self):
        run = self.measure("one run", "--sizes", "1mb,2mb,4mb", "--dram", "2mb")
        elements = self.open_page(self.path("r.html"))
        self.assert_points(elements, [run], FIGURES)
        text = "".join(elements.text)
        for expected in ("one run", "Throughput", "Tail latency", "operations per second", "dataset : DRAM",
                         "as large as DRAM", "latency (logarithmic)"):
            self.assertIn(expected, text)

    def test_runs_stand_side_by_side(self):
        first = self.measure("</script><b>bold & \"sly\"", "--keys", "500,1500")
        os.rename(self.path("r.json"), self.path("first.json"))
        second = self.measure("second", "--keys", "700,1500,3000", "--pipeline", "4",
                              "--compare", self.path("first.json"))
        tail = ("open_p50_us", "open_p99_us", "open_p99.99_us", "open_max_us")
        shown = [figure for figure in FIGURES if figure not in tail]
        elements = self.open_page(self.path("r.html"))
        self.assert_points(elements, [second, first], shown)
        self.assertEqual([tag for tag, _ in elements.list if tag == "b"], [])
        # Another percentile, and without the first run.
        script = """for (const button of document.querySelectorAll(".choice button"))
                      if (button.textContent === "p99") button.click();
                    document.querySelector("#legend button").click();"""
        elements = self.open_page(self.path("r.html"), script)
        self.assert_points(elements, [{"steps": []}, first], ["open_p99_us", "closed_operations_per_second"])
        # The same page from the files alone.
        files = f"{self.path('r.json')},{self.path('first.json')}"
        self.run_bench("--html", self.path("both.html"), "--compare", files)
        self.assert_points(self.open_page(self.path("both.html")), [second, first], shown)

    def test_the_table_holds_a_row_for_each_dataset(self):
        run = self.measure("rows", "--keys", "100,200,300")
        elements = self.open_page(self.path("r.html"), "document.querySelectorAll('#view button')[1].click();")
        tables = [attributes for tag, attributes in elements.list if tag == "table"]
        rows = [attributes for tag, attributes in elements.list if tag == "tr"]
        self.assertEqual(len(tables), 3)
        self.assertEqual(len(rows), 3 * (1 + len(run["steps"])))
        sections = {attributes["id"]: attributes for tag, attributes in elements.list if tag == "section"}
        self.assertNotIn("hidden", sections["tables"])
        self.assertIn("hidden", sections["charts"])

    def test_what_is_no_report_is_refused(self):
        with open(self.path("bad.json"), "w", encoding="utf-8") as file:
            file.write('{"format": "terrace-capacity 1", }')
        for name in ("bad.json", "missing.json"):
            command = [bench_program(), "capacity", "--html", self.path("x.html"), "--compare", self.path(name)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(name, done.stderr)
            self.assertFalse(os.path.exists(self.path("x.html")))


if __name__ == "__main__":
    unittest.main()
