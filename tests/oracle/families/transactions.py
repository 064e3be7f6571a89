"""MULTI, EXEC, DISCARD, WATCH, UNWATCH; what runs inside comes from all families."""


def add_to(grammar):
    grammar.add("MULTI", 8, lambda g: [])
    grammar.add("EXEC", 16, lambda g: [])
    grammar.add("DISCARD", 3, lambda g: [])
    grammar.add("WATCH", 8, lambda g: g.keys())
    grammar.add("UNWATCH", 3, lambda g: [])
