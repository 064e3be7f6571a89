"""When two replies count as the same.

Most replies have to be identical, type and bytes. Some cannot be: times that pass, orders nobody promised,
versions and ids. Each of those has a comparison of its own here, and nothing is compared more loosely than it must.
"""

from oracle.differences import explain, parts
from support.resp import QUEUED, ErrorReply, Map, SetReply, encode_argument

TOLERANCE_MS = 30_000  # between what two servers do; no two lifetimes are as near to each other as that
MILLISECOND_TIMES = {"PTTL", "PEXPIRETIME"}
SECOND_TIMES = {"TTL", "EXPIRETIME"}


def same_within(tolerance):
    def same(ours, theirs):
        if isinstance(ours, int) and isinstance(theirs, int) and ours >= 0 and theirs >= 0:
            return abs(ours - theirs) <= tolerance
        return ours == theirs

    return same


def same_members(ours, theirs):
    if isinstance(ours, SetReply) and isinstance(theirs, SetReply):
        ours, theirs = ours.value, theirs.value
    if isinstance(ours, list) and isinstance(theirs, list):
        return sorted(map(repr, ours)) == sorted(map(repr, theirs))
    return ours == theirs


def same_pairs(ours, theirs):
    """Fields with their values: a map, or a list in RESP2."""
    if type(ours) is not type(theirs) or not isinstance(ours, (Map, list)):
        return ours == theirs
    ours, theirs = (sorted(reply.value if isinstance(reply, Map) else zip(reply[::2], reply[1::2])) for reply in (ours, theirs))
    return ours == theirs


def same_step_of_members(ours, theirs):
    """A step of SSCAN that shows all there is, in any order."""
    if not (isinstance(ours, list) and isinstance(theirs, list)):
        return ours == theirs
    return ours[0] == theirs[0] and sorted(ours[1]) == sorted(theirs[1])


def same_kind(ours, theirs):
    return type(ours) is type(theirs) and (not isinstance(ours, ErrorReply) or ours == theirs)


def same_draw(ours, theirs):
    """Members drawn at random: as many of the same kind."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs)
    return same_kind(ours, theirs)


def same_step(ours, theirs):
    """A step of ZSCAN that shows all there is, in any order."""
    if not (isinstance(ours, list) and isinstance(theirs, list)):
        return ours == theirs
    return ours[0] == theirs[0] and sorted(zip(ours[1][::2], ours[1][1::2])) == sorted(zip(theirs[1][::2], theirs[1][1::2]))


def same_hello(ours, theirs):
    def stripped(reply):
        if isinstance(reply, Map):
            pairs = reply.value
        elif isinstance(reply, list):
            pairs = list(zip(reply[::2], reply[1::2]))
        else:
            return reply
        return type(reply), [(key, None if key in (b"version", b"id") else value) for key, value in pairs]

    return stripped(ours) == stripped(theirs)


def _pairs(reply):
    """A map's pairs, in RESP2 or RESP3; None: it is none."""
    if isinstance(reply, Map):
        return list(reply.value)
    if isinstance(reply, list) and len(reply) % 2 == 0 and reply and all(isinstance(name, bytes) for name in reply[::2]):
        return list(zip(reply[::2], reply[1::2]))
    return None


def _stream_facts(reply):
    """What XINFO tells, without times, pages, what groups have read and lag behind (7.4 counts that past what was deleted
    and trimmed), and consumers with nothing pending: 7.2 makes a consumer when it asks for something, 7.0 when it gets
    something."""
    pairs = _pairs(reply)
    if pairs is not None and pairs[0][0] in (b"length", b"name"):
        facts = {}
        for name, value in pairs:
            if name in (b"seen-time", b"active-time", b"idle", b"inactive", b"radix-tree-keys", b"radix-tree-nodes",
                        b"entries-read", b"lag"):
                continue
            if name == b"consumers" and isinstance(value, int):
                continue
            if name == b"pending" and isinstance(value, list):
                facts[name] = [[item for place, item in enumerate(entry) if place != len(entry) - 2] for entry in value]
            elif name in (b"groups", b"consumers") and isinstance(value, list):
                facts[name] = _stream_facts(value)
            else:
                facts[name] = value
        return facts
    if isinstance(reply, list):
        facts = [_stream_facts(item) for item in reply]
        return [fact for fact in facts if not _is_idle_consumer(fact)]
    return reply


def _is_idle_consumer(facts):
    return isinstance(facts, dict) and b"last-delivered-id" not in facts and b"length" not in facts and not facts.get(b"pending")


def same_stream_facts(ours, theirs):
    return _stream_facts(ours) == _stream_facts(theirs)


def same_pending(ours, theirs):
    """The third part of each entry of XPENDING is how long it has been idle."""
    if not (isinstance(ours, list) and isinstance(theirs, list)) or (ours and not isinstance(ours[0], list)):
        return ours == theirs
    return len(ours) == len(theirs) and all(
        mine[:2] == other[:2] and mine[3:] == other[3:] and abs(mine[2] - other[2]) <= TOLERANCE_MS
        for mine, other in zip(ours, theirs))


def same(ours, theirs):
    return ours == theirs


def command_words(arguments):
    return [encode_argument(argument).decode("utf-8", "backslashreplace").upper() for argument in arguments]


def comparison_for(words):
    """How the replies of this command are to be compared."""
    name = words[0]
    if name in SECOND_TIMES:
        return same_within(TOLERANCE_MS // 1000)
    if name in MILLISECOND_TIMES:
        return same_within(TOLERANCE_MS)
    if name in ("ZRANDMEMBER", "SRANDMEMBER", "HRANDFIELD"):
        return same_draw
    if name in ("ZSCAN", "HSCAN"):
        return same_step
    if name == "SSCAN":
        return same_step_of_members
    if name == "HGETALL":
        return same_pairs
    if name in ("KEYS", "HKEYS", "HVALS", "SMEMBERS", "SINTER", "SUNION", "SDIFF", "SPOP"):
        return same_members
    if name == "HELLO":
        return same_hello
    if name == "XINFO":
        return same_stream_facts
    if name == "XPENDING":
        return same_pending
    if words[:2] == ["OBJECT", "IDLETIME"]:
        return same_within(TOLERANCE_MS // 1000)
    if words[:2] == ["MEMORY", "USAGE"]:
        return same_kind
    return same


class Comparer:
    """The comparison of one connection's replies; it follows MULTI, so that each reply inside EXEC is compared
    by the rule of its own command."""

    def __init__(self):
        self.queued = []
        self.parted = False  # the servers no longer hold the same data, and that is fine

    def agree(self, arguments, ours, theirs):
        words = command_words(arguments) or [""]
        agreed = self._agree(words, ours, theirs)
        if theirs == QUEUED:
            self.queued.append(words)
        elif words[0] in ("EXEC", "DISCARD", "RESET", "MULTI") and not (words[0] == "MULTI" and isinstance(theirs, ErrorReply)):
            self.queued = []
        return agreed

    def _agree(self, words, ours, theirs):
        if words[0] == "EXEC" and isinstance(ours, list) and isinstance(theirs, list):
            if len(ours) != len(theirs) or len(ours) != len(self.queued):
                return False
            return all(self._agree_one(queued, mine, other) for queued, mine, other in zip(self.queued, ours, theirs))
        return self._agree_one(words, ours, theirs)

    def _agree_one(self, words, ours, theirs):
        if comparison_for(words)(ours, theirs) or explain(words, ours, theirs) is not None:
            return True
        self.parted = self.parted or parts(words, ours, theirs)
        return self.parted
