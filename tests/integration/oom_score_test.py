"""oom-score-adj: the number by which the kernel chooses whom to end when memory runs out."""

import os
import unittest

from support.case import ServerTest
from support.resp import OK


class OomScore(ServerTest):
    def score(self, server=None):
        with open(f"/proc/{(server or self.server).pid}/oom_score_adj", encoding="ascii") as file:
            return int(file.read())

    def set_from_outside(self, score):
        with open(f"/proc/{self.server.pid}/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))

    def setUp(self):
        super().setUp()
        self.control = self.client()
        self.set("no", "0 200 800")
        # An unprivileged process may not go below where it was started: the tests go up from there.
        self.base = self.score()

    def set(self, mode, *values):
        pairs = ["oom-score-adj", mode] + (["oom-score-adj-values", values[0]] if values else [])
        self.assert_reply(OK, self.control, "CONFIG", "SET", *pairs)

    def test_relative_absolute_and_back(self):
        self.set("yes", "10 20 30")
        self.assertEqual(self.score(), self.base + 10)
        self.assert_reply(OK, self.control, "CONFIG", "SET", "oom-score-adj-values", "15 20 30")
        self.assertEqual(self.score(), self.base + 15)
        self.set("absolute", f"{self.base + 7} 20 30")
        self.assertEqual(self.score(), self.base + 7)
        self.set("relative", "9 9 9")
        self.assertEqual(self.score(), self.base + 9)
        self.set("no")
        self.assertEqual(self.score(), self.base)

    def test_what_others_set_is_left_alone_while_it_is_off(self):
        self.set_from_outside(self.base + 22)
        self.assert_reply(OK, self.control, "CONFIG", "SET", "oom-score-adj-values", "1 2 3")
        self.assertEqual(self.score(), self.base + 22)
        self.set("yes", "9 9 9")
        self.assertEqual(self.score(), self.base + 31)
        self.set("no")
        self.assertEqual(self.score(), self.base + 22)

    def test_from_the_start(self):
        server = self.start_server("--oom-score-adj", "yes", "--oom-score-adj-values", "11", "200", "800")
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            self.assertEqual(self.score(server), int(file.read()) + 11)

    @unittest.skipIf(os.geteuid() == 0, "a privileged process may set any score")
    def test_a_refusal_changes_nothing(self):
        self.assert_reply(OK, self.control, "CONFIG", "SET", "oom-score-adj-values", "-1000 -1000 -1000")
        self.assert_error_starts("ERR CONFIG SET failed (possibly related to argument 'oom-score-adj') - Failed to set",
                                 self.control, "CONFIG", "SET", "oom-score-adj", "yes")
        self.assert_reply([b"oom-score-adj", b"no"], self.control, "CONFIG", "GET", "oom-score-adj")
        self.assertEqual(self.score(), self.base)


if __name__ == "__main__":
    unittest.main()
