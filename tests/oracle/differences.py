"""Where Terrace and redis-server 7.0.15 are known to differ, and why. Nothing else may.

Terrace follows Redis 7.2 where that changed a reply. Each row: what it is about, a test on (command words in
upper case, Terrace's reply, Redis's reply) that recognises it, and the reason.
"""

import re

from support.resp import ErrorReply


def _both_errors(ours, theirs):
    return isinstance(ours, ErrorReply) and isinstance(theirs, ErrorReply)


KNOWN = [
    (
        "configuration only one of them has",
        lambda words, ours, theirs: words[:2] == ["CONFIG", "GET"] and "*" in "".join(words[2:]),
        "a glob answers with the names each server has",
    ),
    (
        "which error of a wrong HELLO comes first",
        lambda words, ours, theirs: words[:1] == ["HELLO"] and _both_errors(ours, theirs)
        and theirs.text.startswith("WRONGPASS"),
        "7.2 reads all options before it checks the password",
    ),
    (
        "PFDEBUG DECODE of a value that ends within a run",
        lambda words, ours, theirs: words[:2] == ["PFDEBUG", "DECODE"] and isinstance(ours, bytes) and isinstance(theirs, bytes)
        and theirs.startswith(ours) and re.fullmatch(rb" ?Z:[0-9]+", theirs[len(ours):]),
        "Redis reads the byte behind the value",
    ),
    (
        "ZRANK and ZREVRANK with more than a key and a member",
        lambda words, ours, theirs: words[0] in ("ZRANK", "ZREVRANK") and len(words) > 3 and isinstance(theirs, ErrorReply),
        "7.2 takes WITHSCORE",
    ),
    (
        "BITCOUNT and BITPOS with wrong arguments, of a key that is not there or no string",
        lambda words, ours, theirs: words[0] in ("BITCOUNT", "BITPOS") and isinstance(ours, ErrorReply)
        and (theirs in (0, -1) or isinstance(theirs, ErrorReply) and theirs.text.startswith("WRONGTYPE")),
        "7.2 looks at the arguments first",
    ),
    (
        "XREAD and XREADGROUP with an odd number of streams and IDs",
        lambda words, ours, theirs: words[0] in ("XREAD", "XREADGROUP") and _both_errors(ours, theirs)
        and theirs.text.startswith("ERR Unbalanced"),
        "7.2 names the command",
    ),
    (
        "XREAD and XREADGROUP with the ID +",
        lambda words, ours, theirs: words[0] in ("XREAD", "XREADGROUP") and "+" in words and isinstance(theirs, ErrorReply),
        "7.4 takes it for the last entry",
    ),
    (
        "XGROUP CREATECONSUMER of one that was made before",
        lambda words, ours, theirs: words[:2] == ["XGROUP", "CREATECONSUMER"] and ours == 0 and theirs == 1,
        "7.2 makes a consumer when it asks for something, 7.0 when it gets something",
    ),
    (
        "an error that repeats a long argument",
        lambda words, ours, theirs: _both_errors(ours, theirs) and len(theirs.text) > len(ours.text) > 1000
        and theirs.text.startswith(ours.text[:1000]),
        "Terrace cuts the text of an error",
    ),
    (
        "OBJECT ENCODING of a small set",
        lambda words, ours, theirs: words[:2] == ["OBJECT", "ENCODING"] and (ours, theirs) == (b"listpack", b"hashtable"),
        "since 7.2 a small set that is not of integers is a listpack",
    ),
    (
        "OBJECT ENCODING of a short list",
        lambda words, ours, theirs: words[:2] == ["OBJECT", "ENCODING"] and (ours, theirs) == (b"listpack", b"quicklist"),
        "since 7.2 a list that fits is one listpack",
    ),
    (
        "OBJECT ENCODING of a sorted set that was sorted",
        lambda words, ours, theirs: words[:2] == ["OBJECT", "ENCODING"] and (ours, theirs) == (b"listpack", b"skiplist"),
        "SORT makes a skiplist of it in Redis",
    ),
    (
        "SORT ALPHA of texts with zero bytes",
        lambda words, ours, theirs: words[:1] in (["SORT"], ["SORT_RO"]) and "ALPHA" in words and "STORE" not in words
        and isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs)
        and any(isinstance(item, bytes) and b"\0" in item for item in ours + theirs),
        "Redis compares them up to the first zero byte",
    ),
    (
        "a timeout that is too long",
        lambda words, ours, theirs: ours == ErrorReply("ERR timeout is out of range")
        and theirs == ErrorReply("ERR timeout is negative"),
        "7.2 says what is wrong",
    ),
    (
        "LPOS RANK -9223372036854775808",
        lambda words, ours, theirs: words[:1] == ["LPOS"] and "-9223372036854775808" in words and isinstance(ours, ErrorReply),
        "refused since 7.2",
    ),
    (
        "the list of arguments LATENCY, MEMORY and others take",
        lambda words, ours, theirs: words[-1:] == ["HELP"],
        "help texts are prose",
    ),
]


# What leaves other data behind in the two servers, so that they have to be emptied.
PARTING = [
    (
        "SORT of a set that is left unsorted",
        lambda words, ours, theirs: words[:1] in (["SORT"], ["SORT_RO"]) and isinstance(ours, list) and isinstance(theirs, list)
        and any(by == "BY" and "*" not in pattern for by, pattern in zip(words, words[1:])),
        "the order of a set is nobody's promise",
    ),
    (
        "XSETID to less than what was deleted",
        lambda words, ours, theirs: words[:1] == ["XSETID"]
        and ours == ErrorReply("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"),
        "7.2 refuses it",
    ),
    (
        "an entry with an ID of the clock",
        lambda words, ours, theirs: words[:1] == ["XADD"] and "*" in words and isinstance(ours, bytes) and isinstance(theirs, bytes),
        "the two read it at different times",
    ),
    (
        "SORT after a command whose number was out of range",
        lambda words, ours, theirs: words[:1] in (["SORT"], ["SORT_RO"]) and not isinstance(ours, ErrorReply)
        and theirs == ErrorReply("ERR One or more scores can't be converted into double"),
        "Redis takes the error of that command (errno) for one of its own",
    ),
    (
        "LREM -9223372036854775808",
        lambda words, ours, theirs: words[:1] == ["LREM"] and "-9223372036854775808" in words and isinstance(ours, ErrorReply),
        "refused since 7.2",
    ),
    (
        "BITFIELD that ends behind the last byte of the longest value",
        lambda words, ours, theirs: words[:1] == ["BITFIELD"] and isinstance(theirs, list)
        and ours == ErrorReply("ERR bit offset is not an integer or out of range") and "4294967295" in words,
        "Redis checks where the first bit lies, and makes a value of more than 512 MB",
    ),
]


def parts(words, ours, theirs):
    """Whether this difference is fine, but the servers' data are no longer the same."""
    return any(recognises(words, ours, theirs) for _, recognises, _ in PARTING)


def explain(words, ours, theirs):
    """The reason why this difference is fine, or None."""
    for _, recognises, reason in KNOWN:
        if recognises(words, ours, theirs):
            return reason
    return None
