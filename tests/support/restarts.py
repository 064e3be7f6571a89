"""The base of tests in which one server after the other runs on the same files."""

import random
import unittest


def value_of(number, repeats=40):
    """What key:number holds, of up to `repeats` times 40 characters; the same each time."""
    generator = random.Random(number)
    return f"{number}:" + "".join(generator.choice("abcdef") for _ in range(40)) * generator.randrange(repeats)


class RestartTest(unittest.TestCase):
    server = None  # the one that runs now, or ran last

    def value_of(self, number):
        return value_of(number)

    def shut_down(self, client, *how):
        client.send("SHUTDOWN", *how)
        self.assertEqual(self.server.wait_for_exit(), 0, self.server.output_text())

    def load(self, client, numbers):
        numbers = list(numbers)
        for start in range(0, len(numbers), 500):
            client.pipeline([("SET", f"key:{i}", self.value_of(i)) for i in numbers[start : start + 500]])

    def verify(self, client, numbers):
        numbers = list(numbers)
        for start in range(0, len(numbers), 200):
            some = numbers[start : start + 200]
            replies = client.pipeline([("GET", f"key:{i}") for i in some])
            self.assertEqual(replies, [self.value_of(i).encode() for i in some])
