"""What commands of a pipeline will read is fetched ahead of them, also where the commands before them change it, remove
it or put something else in its place: they answer as if each had come alone."""

import random

from support import dataset
from support.case import ServerTest, new_seed
from support.resp import encode_command

ROUNDS, BATCH = 60, 40
TYPES = ("hash", "set", "zset", "stream", "list", "bits")
KEYS = [f"{kind}:{number}" for kind in TYPES for number in (1, 2)]


def fill(client):
    """A big value and a small one of each type, from which the others are copied."""
    for name, count in (("large", 1500), ("small", 20)):
        numbers = range(count)
        client.ok("HSET", f"{name}:hash", *[word for i in numbers for word in (f"m{i}", i)])
        client.ok("SADD", f"{name}:set", *[f"m{i}" for i in numbers])
        client.ok("ZADD", f"{name}:zset", *[word for i in numbers for word in (i % 50, f"m{i}")])
        for i in range(1, count // 5 + 1):
            client.ok("XADD", f"{name}:stream", f"{i}-1", "name", i, "other", "x" * (i % 40))
        client.ok("RPUSH", f"{name}:list", *[f"element:{i}" for i in numbers])
        client.ok("SETBIT", f"{name}:bits", count * 1000, 1)


class FetchedAhead(ServerTest):
    server_arguments = ("--threads", "1")

    def setUp(self):
        super().setUp()
        self.seed = new_seed()
        self.random = random.Random(self.seed)
        self.next_id = 1000

    def command(self):
        pick = self.random.choice
        key, member, number = pick(KEYS), f"m{self.random.randrange(2000)}", self.random.randrange(60)
        self.next_id += 1
        return pick((
            ("HGET", key, member), ("HSET", key, member, number), ("HINCRBY", key, member, 1), ("HDEL", key, member),
            ("SISMEMBER", key, member), ("SADD", key, member), ("SREM", key, member),
            ("ZSCORE", key, member), ("ZADD", key, number, member), ("ZRANK", key, member), ("ZREM", key, member),
            ("XADD", key, f"{self.next_id}-1", "name", number), ("XADD", key, f"{self.next_id}-1", "new", number),
            ("XTRIM", key, "MAXLEN", number), ("XLEN", key),
            ("LPUSH", key, member), ("RPUSH", key, member), ("LPOP", key), ("RPOP", key), ("LINDEX", key, number),
            ("LRANGE", key, 0, 9), ("LSET", key, 0, member), ("LREM", key, 1, member),
            ("SETBIT", key, number * 10007, 1), ("GETBIT", key, number * 10007),
            ("DEL", key), ("RENAME", key, pick(KEYS)),
            *[("COPY", f"{pick(('large', 'small'))}:{kind}", key, "REPLACE") for kind in TYPES],
            *[("COPY", f"large:{name.partition(':')[0]}", name, "REPLACE") for name in KEYS],
        ))

    def test_pipelines_answer_as_commands_alone(self):
        alone = self.connect_to(self.start_server(*self.server_arguments))
        together = self.client()
        for client in (alone, together):
            fill(client)
        for _ in range(ROUNDS):
            batch = [self.command() for _ in range(BATCH)]
            together.send_raw(b"".join(encode_command(*command) for command in batch))
            for command in batch:
                self.assertEqual(together.read_reply(), alone.command(*command), f"{command}, seed {self.seed}")
        for key in KEYS:
            self.assertEqual(dataset.value_of(together, key), dataset.value_of(alone, key), f"{key}, seed {self.seed}")
