"""COMMAND GETKEYS and the error paths of CONFIG, SLOWLOG, LATENCY, MEMORY; their good replies are each server's own."""


def some_command(g):
    return g.pick(
        ["GET", "a"], ["MGET", "a", "b", "c"], ["MSET", "a", "1", "b", "2"], ["SET", "a", "1", "GET"], ["SET", "a", "1"], ["BITOP", "AND", "d", "s", "t"],
        ["COPY", "a", "b"], ["RENAME", "a", "b"], ["PFMERGE", "d", "s", "t"], ["PFCOUNT", "s", "t"], ["OBJECT", "ENCODING", "k"], ["PING"],
        ["LCS", "a", "b"], ["GETEX", "a", "EX", "1"], ["BITFIELD", "k", "GET", "u8", "0"], ["BITFIELD", "k", "SET", "u8", "0", "1"], ["EXPIRE", "k", "1"],
        ["DEL", "a", "b"], ["NOSUCH", "a"], ["GET"], ["MEMORY", "USAGE", "k"], ["WATCH", "a", "b"], ["TOUCH", "a", "b"], ["MSETNX", "a", "1"])


def add_to(grammar):
    grammar.add("COMMAND GETKEYS", 2, some_command, spoil=False)
    grammar.add("COMMAND GETKEYSANDFLAGS", 2, some_command, spoil=False)
    grammar.add("COMMAND INFO", 0.5, lambda g: [g.pick("nosuch", "no|such")], spoil=False)
    grammar.add("COMMAND LIST", 0.3, lambda g: g.pick(["FILTERBY", "what", "x"], ["FILTERBY", "MODULE", "nosuch"], ["what"]), spoil=False)
    grammar.add("COMMAND", 0.3, lambda g: ["NOSUCH"], spoil=False)
    grammar.add("CONFIG GET", 1, lambda g: [g.pick("maxclients", "nosuch", "proto-max-bulk-len", "databases", "MAXCLIENTS", "hash-max-listpack-*")])
    grammar.add("CONFIG SET", 1, lambda g: g.pick(
        ["nosuch", "1"], ["maxclients"], ["databases", "3"], ["slowlog-max-len", "x"], ["slowlog-max-len", "128", "slowlog-max-len", "128"],
        ["maxmemory-policy", "what"], ["slowlog-log-slower-than", "10000"], ["lazyfree-lazy-expire", "maybe"],
        ["slowlog-max-len", "128", "nosuch", "1"], ["hz", "x"], ["port", "70000"], ["save", "x"], []), spoil=False)
    grammar.add("CONFIG", 0.3, lambda g: g.pick([], ["NOSUCH"], ["GET"], ["RESETSTAT", "x"]), spoil=False)
    grammar.add("SLOWLOG", 0.5, lambda g: g.pick(["NOSUCH"], ["GET", "x"], ["GET", "-2"], ["LEN", "x"], [], ["RESET", "x"]), spoil=False)
    grammar.add("LATENCY", 0.5, lambda g: g.pick(["NOSUCH"], ["HISTORY"], ["HISTORY", "nosuch"], ["RESET", "nosuch"], ["LATEST", "x"], []), spoil=False)
    grammar.add("MEMORY", 0.5, lambda g: g.pick(["NOSUCH"], ["USAGE"], ["USAGE", "missing"], ["USAGE", "missing", "SAMPLES", "x"], ["USAGE", "k1", "what"],
                                               ["USAGE", "k1", "SAMPLES", "-1"], []), spoil=False)
    grammar.add("MEMORY USAGE", 1, lambda g: [g.key()], spoil=False)
    grammar.add("SHUTDOWN", 0.2, lambda g: [g.pick("what", "SAVE NOSAVE")], spoil=False)
    grammar.add("LOLWUT", 0.1, lambda g: ["VERSION", "x"], spoil=False)
    grammar.add("TIME", 0.2, lambda g: ["x"], spoil=False)
