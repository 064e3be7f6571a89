"""A dataset with every type and encoding, and what a client sees of it: for comparing servers, and a server with
itself after a restart."""

import random

LATER_MS = 4_000_000_000_000  # 2096


def fill_strings(client):
    generator = random.Random(1)
    values = [b"", b"a", b"12", b"-1", b"127", b"128", b"-32768", b"32768", b"2147483648", b"9223372036854775807",
              b"007", b"1.5", b"x" * 20, b"x" * 21, b"ab" * 5000, bytes(range(256)) * 4, generator.randbytes(3000),
              b"compress me " * 100_000, generator.randbytes(2_000_000)]
    for number, value in enumerate(values):
        client.ok("SET", f"string:{number}", value)
    client.ok("SET", "string:counter", 41)
    client.ok("INCR", "string:counter")
    client.ok("APPEND", "string:edited", "1")
    client.ok("APPEND", "string:edited", "2")
    client.ok("SETBIT", "string:bits", 3_000_000, 1)
    client.ok("SETRANGE", "string:holes", 5_000_000, "end")
    client.ok("SET", b"\x00binary\xffkey", "binary")
    client.ok("SET", "12345", "a key that is a number")
    client.ok("SET", "k" * 300, "a long key")


def fill_lists(client):
    client.ok("RPUSH", "list:one", "x")
    client.ok("RPUSH", "list:small", 1, "b", -300, 70000, "", "x" * 100, 1 << 40)
    client.ok("RPUSH", "list:large", *[f"element:{i}" if i % 3 else i for i in range(5000)])
    # Pushed and popped at the front: Terrace leaves room there, if they are of some size.
    client.ok("RPUSH", "list:popped", *[f"element:{i}" for i in range(100)])
    client.ok("LPOP", "list:popped", 3)
    client.ok("LPUSH", "list:pushed", "a first element")
    for i in range(80):
        client.ok("LPUSH", "list:pushed", f"element:{i}")
    client.ok("RPUSH", "list:wide", "y" * 20000, "z" * 100_000, "", 5)


def fill_sets(client):
    client.ok("SADD", "set:int16", 1, 2, -3)
    client.ok("SADD", "set:int64", 1, 1 << 40)
    client.ok("SADD", "set:small", "a", 5, "", "x" * 60)
    client.ok("SADD", "set:large", *[f"member:{i}" if i % 2 else i for i in range(3000)])


def fill_sorted_sets(client):
    client.ok("ZADD", "zset:small", 1, "a", 2.5, "b", "-inf", "c", "inf", "d", 1e300, "e", 3, 7)
    client.ok("ZADD", "zset:large", *[word for i in range(3000) for word in (i / 7, f"member:{i}")])
    client.ok("ZADD", "zset:large", "inf", "top", "-inf", "bottom", "-0", "minus", "0", "zero")
    client.ok("ZADD", "zset:long", 1, "m" * 100)


def fill_hashes(client):
    client.ok("HSET", "hash:small", "a", 1, "b", "", "", "empty name", "c", "x" * 60)
    client.ok("HSET", "hash:large", *[word for i in range(3000) for word in (f"field:{i}", i)])
    client.ok("HSET", "hash:long", "f", "v" * 30000)


def fill_streams(client):
    client.ok("XGROUP", "CREATE", "stream:empty", "readers", "$", "MKSTREAM")
    for i in range(1, 1001):
        client.ok("XADD", "stream:large", f"{i}-{i % 3}", "name", i, "other", "value")
    for i in range(2000, 2050):
        client.ok("XADD", "stream:large", f"{i}-0", *[word for j in range(i % 4 + 1) for word in (f"f{j}", "x" * i)])
    client.ok("XADD", "stream:large", "3000-0", "large", "y" * 100_000)
    client.ok("XDEL", "stream:large", "500-2", "1000-1")
    client.ok("XGROUP", "CREATE", "stream:large", "readers", 0)
    client.ok("XGROUP", "CREATE", "stream:large", "idle", "$")
    client.ok("XREADGROUP", "GROUP", "readers", "first", "COUNT", 300, "STREAMS", "stream:large", ">")
    client.ok("XREADGROUP", "GROUP", "readers", "second", "COUNT", 100, "STREAMS", "stream:large", ">")
    client.ok("XACK", "stream:large", "readers", "5-2", "7-1", "302-2")
    client.ok("XGROUP", "CREATECONSUMER", "stream:large", "readers", "third")
    client.ok("XDEL", "stream:large", "10-1")
    client.ok("XADD", "stream:small", "1-1", "a", "b")
    client.ok("XADD", "stream:small", "1-2", "a", 17)


def fill(client):
    """Every type in database 0, some keys with an expiry, and a few keys in database 3."""
    for filler in (fill_strings, fill_lists, fill_sets, fill_sorted_sets, fill_hashes, fill_streams):
        filler(client)
    for key in ("string:1", "list:large", "hash:small", "zset:large", "stream:small"):
        client.ok("PEXPIREAT", key, LATER_MS)
    client.ok("SELECT", 3)
    client.ok("MSET", "a", 1, "b", "two")
    client.ok("SELECT", 0)


def keys_of(client):
    return sorted(client.ok("KEYS", "*"))


def value_of(client, key):
    """The contents of a key, whatever its encoding, in a form that can be compared; None: there is none."""
    kind = client.ok("TYPE", key).value
    if kind == b"string":
        return kind, client.ok("GET", key)
    if kind == b"list":
        return kind, client.ok("LRANGE", key, 0, -1)
    if kind == b"set":
        return kind, sorted(client.ok("SMEMBERS", key))
    if kind == b"zset":
        return kind, client.ok("ZRANGE", key, 0, -1, "WITHSCORES")
    if kind == b"hash":
        words = client.ok("HGETALL", key)
        return kind, sorted(zip(words[::2], words[1::2]))
    if kind == b"stream":
        return kind, stream_of(client, key)
    return None


def stream_of(client, key):
    info = client.ok("XINFO", "STREAM", key)
    facts = {name: value for name, value in zip(info[::2], info[1::2])
             if name in (b"length", b"last-generated-id", b"max-deleted-entry-id", b"entries-added", b"groups",
                         b"recorded-first-entry-id")}
    groups = []
    for words in client.ok("XINFO", "GROUPS", key):
        group = dict(zip(words[::2], words[1::2]))
        pending = [entry[:2] + entry[3:] for entry in client.ok("XPENDING", key, group[b"name"], "-", "+", 10000)]
        consumers = sorted((words[1], words[3]) for words in client.ok("XINFO", "CONSUMERS", key, group[b"name"]))
        groups.append((sorted(group.items()), pending, consumers))
    return facts, client.ok("XRANGE", key, "-", "+"), groups


def contents(client, databases=(0, 3)):
    """Everything: by database and key, its value and its time of expiry."""
    everything = {}
    for database in databases:
        client.ok("SELECT", database)
        for key in keys_of(client):
            everything[database, key] = value_of(client, key), client.ok("PEXPIRETIME", key)
    client.ok("SELECT", 0)
    return everything


def differences(expected, got):
    """What is wrong with `got`, in short; empty: nothing."""
    wrong = [f"{key!r} is missing" for key in expected if key not in got]
    wrong += [f"{key!r} is new" for key in got if key not in expected]
    wrong += [f"{key!r}: {str(expected[key])[:300]} became {str(got[key])[:300]}"
              for key in expected if key in got and expected[key] != got[key]]
    return "\n".join(wrong[:20])
