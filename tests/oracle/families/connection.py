"""Commands on the connection itself, as far as their replies do not tell one server from the other."""


def hello_options(g):
    """Redis 7.0 sets the name though a later option is refused, 7.2 does not: so none that is good precedes a bad one."""
    options = [g.pick("2", "3", "3", "2", "1", "4", "x", "")] if g.chance(0.9) else []
    refused = g.chance(0.1)
    if options and g.chance(0.2):
        options += ["SETNAME", g.pick("a b", b"\xff") if refused else g.pick("name", "a b", "", b"\xff")]
    if options and refused:
        options += g.pick(["AUTH", "default", "x"], ["AUTH", "nobody", "x"], ["AUTH"], ["what"], ["SETNAME"])
    return options


def client_kill(g):
    """Never a filter that matches: ids that were not given yet, addresses nobody has."""
    return g.pick(["ID", "9999999"], ["ID", "0"], ["ID", "-1"], ["ID", "x"], ["ADDR", "1.2.3.4:5"], ["LADDR", "1.2.3.4:5"], ["1.2.3.4:5"],
                  ["TYPE", "what"], ["TYPE", "pubsub"], ["TYPE", "master"], ["USER", "nobody"], ["SKIPME", "what", "ID", "9999999"],
                  ["SKIPME", "yes", "ID", "9999999"], ["what", "x"], ["ID"], [])


def add_to(grammar):
    grammar.add("PING", 4, lambda g: [g.value()] if g.chance(0.5) else [])
    grammar.add("ECHO", 4, lambda g: [g.value()])
    grammar.add("HELLO", 2, hello_options, spoil=False)
    grammar.add("AUTH", 1, lambda g: g.pick([g.value()], ["default", g.value()], ["nobody", "x"], ["a", "b", "c"], []))
    grammar.add("CLIENT SETNAME", 2, lambda g: [g.pick("name", "other", "", "a b", "a\n", b"\xff", "x" * 200)])
    grammar.add("CLIENT GETNAME", 2, lambda g: [])
    grammar.add("CLIENT KILL", 2, client_kill, spoil=False)
    grammar.add("CLIENT NO-EVICT", 1, lambda g: [g.pick("on", "off", "ON", "what")])
    grammar.add("CLIENT UNPAUSE", 0.5, lambda g: [])
    grammar.add("CLIENT PAUSE", 0.5, lambda g: [g.pick("x", "-1", "", "1.5"), *g.pick([], ["ALL"], ["WRITE"], ["what"])], spoil=False)
    grammar.add("CLIENT REPLY", 0.5, lambda g: g.pick(["ON"], ["what"], []), spoil=False)
    grammar.add("CLIENT LIST", 0.5, lambda g: g.pick(["TYPE", "what"], ["what"], ["ID", "x"], ["ID"], ["ID", "9999999"], ["TYPE", "pubsub"]),
                spoil=False)
    grammar.add("CLIENT", 1, lambda g: g.pick([], ["NOSUCH"], [""], ["ID", "x"], ["INFO", "x"], ["SETNAME"]), spoil=False)
    grammar.add("RESET", 0.5, lambda g: [])
    grammar.add("NOSUCH", 0.5, lambda g: [g.value() for _ in range(g.below(5))])
    grammar.add("", 0.2, lambda g: [], spoil=False)
