"""SORT by other keys sees them all at one moment, whoever changes them meanwhile."""

import random
import unittest

from support.case import ServerTest, threads
from support.resp import encode_command


@threads
class SortBesideWriters(ServerTest):
    server_arguments = ("--threads", "4")
    elements = 400
    rounds = 60

    def setUp(self):
        super().setUp()
        self.control = self.client()
        self.control.command("RPUSH", "l", *range(self.elements))
        self.control.ok("MSET", *self.shuffled_weights(random.Random(1)))

    def shuffled_weights(self, generator):
        weights = generator.sample(range(self.elements), self.elements)
        return [word for element, weight in enumerate(weights) for word in (f"{{w}}_{element}", weight)]

    def test_the_weights_are_of_one_moment(self):
        """Writers give out the same weights anew, all at once: whoever looks finds each of them. They are in one shard,
        and the list is in another."""
        expected = [str(weight).encode() for weight in range(self.elements)]
        writers, readers = [self.client() for _ in range(4)], [self.client() for _ in range(4)]
        for number, writer in enumerate(writers):
            generator = random.Random(number)
            writer.send_raw(b"".join(
                encode_command("MSET", *map(str, self.shuffled_weights(generator))) for _ in range(self.rounds)))
        for number, reader in enumerate(readers):
            commands = [("SORT", "l", "BY", "{w}_*", "GET", "{w}_*", "STORE", f"d{number}"), ("LRANGE", f"d{number}", "0", "-1")]
            alone = [("SORT_RO", "l", "BY", "{w}_*", "GET", "{w}_*")]
            inside = [("MULTI",), *commands, ("EXEC",)]
            reader.send_raw(b"".join(encode_command(*command) for command in (alone + inside) * self.rounds))
        for writer in writers:
            for _ in range(self.rounds):
                writer.read_reply()
        for reader in readers:
            for _ in range(self.rounds):
                self.assertEqual(reader.read_reply(), expected)
                replies = [reader.read_reply() for _ in range(4)]
                self.assertEqual(replies[-1], [self.elements, expected])


if __name__ == "__main__":
    unittest.main()
