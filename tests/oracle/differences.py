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
        "the list of arguments LATENCY, MEMORY and others take",
        lambda words, ours, theirs: words[-1:] == ["HELP"],
        "help texts are prose",
    ),
]


def explain(words, ours, theirs):
    """The reason why this difference is fine, or None."""
    for _, recognises, reason in KNOWN:
        if recognises(words, ours, theirs):
            return reason
    return None
