"""When two replies count as the same.

Most replies have to be identical, type and bytes. Some cannot be: times that pass, orders nobody promised,
versions and ids. Each of those has a comparison of its own here, and nothing is compared more loosely than it must.
"""

from oracle.differences import explain, parts
from support.resp import QUEUED, ErrorReply, Map, encode_argument

TOLERANCE_MS = 5000
MILLISECOND_TIMES = {"PTTL", "PEXPIRETIME"}
SECOND_TIMES = {"TTL", "EXPIRETIME"}


def same_within(tolerance):
    def same(ours, theirs):
        if isinstance(ours, int) and isinstance(theirs, int) and ours >= 0 and theirs >= 0:
            return abs(ours - theirs) <= tolerance
        return ours == theirs

    return same


def same_members(ours, theirs):
    if isinstance(ours, list) and isinstance(theirs, list):
        return sorted(map(repr, ours)) == sorted(map(repr, theirs))
    return ours == theirs


def same_kind(ours, theirs):
    return type(ours) is type(theirs) and (not isinstance(ours, ErrorReply) or ours == theirs)


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
    if name == "KEYS":
        return same_members
    if name == "HELLO":
        return same_hello
    if words[:2] == ["OBJECT", "IDLETIME"]:
        return same_within(5)
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
