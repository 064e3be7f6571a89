"""What a power cut leaves of the files that io_shim.c watched.

A disk that loses power has done, of what it was not told to make durable, any part: a sector (512 bytes) holds what the
last sync left or what any later write put there, a file has the size of then or of now, and of the changes of a
directory since it was synced the later ones may be missing. cut() turns the folder of a killed server into one such
state, chosen by a random.Random, so that a seed replays it.
"""

import collections
import os

SECTOR = 512


def _read_log(path):
    """The entries of the log: tuples, the first item being the letter. A torn last one is left out."""
    with open(path, "rb") as log:
        data = log.read()
    entries, at = [], 0
    while at < len(data):
        end = data.find(b"\n", at)
        if end < 0:
            break
        words = data[at:end].decode().split(" ")
        at = end + 1
        if words[0] in "WT":
            inode, offset, length, size, old = (int(word) for word in words[1:])
            if at + old > len(data):
                break
            entries.append((words[0], inode, offset, length, size, data[at : at + old]))
            at += old
        elif words[0] == "S":
            entries.append(("S", int(words[1])))
        elif words[0] == "D":
            entries.append(("D", words[1]))
        else:
            entries.append((words[0], int(words[1]), *words[2:]))
    return entries


def _inodes(*folders):
    found = {}
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(place, name)
                found.setdefault(os.stat(path).st_ino, path)
    return found


class _File:
    """The changes of one file since it was last synced."""

    def __init__(self):
        self.changes = []  # (offset, length, size before, old bytes)

    def undo_some(self, path, random):
        how = random.choice(("none", "all", "sectors", "sectors", "tail"))
        if how == "none" or not self.changes:
            return
        with open(path, "r+b") as file:
            synced_size = self.changes[0][2]
            now_size = os.fstat(file.fileno()).st_size
            touched = collections.defaultdict(list)  # sector -> changes that wrote to it
            for number, (offset, _, _, old) in enumerate(self.changes):
                for sector in range(offset // SECTOR, (offset + max(len(old), 1) - 1) // SECTOR + 1):
                    touched[sector].append(number)
                # What lies past the old end of the file was nothing before.
                begin, end = offset + len(old), offset + self.changes[number][1]
                for sector in range(begin // SECTOR, (end + SECTOR - 1) // SECTOR):
                    if number not in touched[sector]:
                        touched[sector].append(number)
            cut_from = random.randrange(len(self.changes) + 1)
            for sector, numbers in touched.items():
                if how == "all":
                    first = 0
                elif how == "tail":
                    first = next((i for i, number in enumerate(numbers) if number >= cut_from), len(numbers))
                else:
                    first = random.choice((0, len(numbers), random.randrange(len(numbers) + 1)))
                for number in reversed(numbers[first:]):
                    self._undo_sector(file, sector, number)
            # The size is a matter of the file system's journal: of then, of now, or of something between.
            if now_size > synced_size:
                size = random.choice((synced_size, now_size, random.randrange(synced_size, now_size + 1)))
                if how == "all":
                    size = synced_size
                file.truncate(size)
            elif now_size < synced_size and how == "all":
                file.truncate(synced_size)

    def _undo_sector(self, file, sector, number):
        offset, length, _, old = self.changes[number]
        begin, end = max(sector * SECTOR, offset), min((sector + 1) * SECTOR, offset + length)
        if begin >= end:
            return
        kept = old[begin - offset : end - offset]
        file.seek(begin)
        file.write(kept + bytes(end - begin - len(kept)))


def _undo_names(entries, random):
    """Undoes the last few changes of directories that were not synced after them."""
    pending = []
    for entry in entries:
        if entry[0] == "D":
            pending = [change for change in pending if os.path.dirname(change[-1]) != entry[1]]
        elif entry[0] == "C":
            pending.append((entry, entry[2]))
        elif entry[0] == "R":
            pending.append((entry, entry[3]))
        elif entry[0] == "U":
            pending.append((entry, entry[2]))
    keep = random.choice((len(pending), 0, random.randrange(len(pending) + 1)))
    for entry, _ in reversed(pending[keep:]):
        if entry[0] == "C" and os.path.exists(entry[2]):
            os.unlink(entry[2])
        elif entry[0] == "R" and os.path.exists(entry[3]):
            os.rename(entry[3], entry[2])
            if entry[4] != "-":
                os.link(entry[4], entry[3])
        elif entry[0] == "U" and not os.path.exists(entry[2]):
            os.link(entry[3], entry[2])


def cut(undo_folder, folder, random):
    """Leaves in `folder` what might be there after a power cut; the server has been killed. Returns how many changes were
    not durable."""
    entries = _read_log(os.path.join(undo_folder, "log"))
    files = collections.defaultdict(_File)
    for entry in entries:
        if entry[0] in "WT":
            files[entry[1]].changes.append((entry[2], entry[3] if entry[0] == "W" else len(entry[5]), entry[4], entry[5]))
        elif entry[0] == "S":
            files.pop(entry[1], None)
    paths = _inodes(folder, undo_folder)
    for inode, file in files.items():
        if inode in paths:
            file.undo_some(paths[inode], random)
    _undo_names(entries, random)
    return sum(len(file.changes) for file in files.values())
