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
        "an error that repeats a long argument",
        lambda words, ours, theirs: _both_errors(ours, theirs) and len(theirs.text) > len(ours.text) > 1000
        and theirs.text.startswith(ours.text[:1000]),
        "Terrace cuts the text of an error",
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
