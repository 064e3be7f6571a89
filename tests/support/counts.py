"""How the stages of tests/run tell what they counted: a line `passed failed skipped` appended to a file."""


def add_counts(path, passed, failed, skipped):
    if path:
        with open(path, "a", encoding="ascii") as file:
            file.write(f"{passed} {failed} {skipped}\n")


def read_counts(path):
    totals = [0, 0, 0]
    with open(path, encoding="ascii") as file:
        for line in file:
            totals = [total + int(word) for total, word in zip(totals, line.split())]
    return tuple(totals)


def describe_counts(passed, failed, skipped):
    text = f"{passed} passed, {failed} failed"
    return f"{text}, {skipped} skipped" if skipped else text
