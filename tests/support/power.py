"""A disk that loses power: what it would hold, had it ended at any moment of what was done to it.

What was synced is there. Of what was not, any sectors may be there and any not, in any order; a file may have its new length
and not its bytes; of the names in a folder that was not synced, those changed first may be changed, and later ones not.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random

from fastserve.store.disk import Disk

SECTOR_BYTES = 512


class File:
    """What survives for certain, and what was done since."""

    def __init__(self, data=b""):
        self.data = data
        self.pending = []

    def copy(self):
        one = File(self.data)
        one.pending = [*self.pending]
        return one

    def sync(self):
        self.data = self.survivor(None)
        self.pending = []

    def survivor(self, rand: Random | None) -> bytes:
        """`rand` None: all of it."""
        data = bytearray(self.data)
        share = 1.0 if rand is None else rand.choice([0.0, 0.5, 0.9, 1.0])
        for at, piece in self.pending:
            if piece is None:
                if rand is None or rand.random() < 0.5:
                    del data[at:]
                continue
            end = at + len(piece)
            if rand is None or rand.random() < 0.7:
                data.extend(bytes(max(0, end - len(data))))
            for first in range(at - at % SECTOR_BYTES, end, SECTOR_BYTES):
                if rand is None or rand.random() < share:
                    low, high = max(first, at), min(first + SECTOR_BYTES, end)
                    data.extend(bytes(max(0, high - len(data))))
                    data[low:high] = piece[low - at : high - at]
        return bytes(data)


class Folder:
    """Names that survive for certain, and how they were changed since."""

    def __init__(self):
        self.names = {}
        self.pending = []

    def now(self):
        return self._after(len(self.pending))

    def _after(self, count):
        names = dict(self.names)
        for name, node in self.pending[:count]:
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node
        return names

    def sync(self):
        self.names, self.pending = self.now(), []

    def write(self, path: Path, rand: Random) -> None:
        """What is left, at `path`."""
        path.mkdir()
        for name, node in self._after(rand.randint(0, len(self.pending))).items():
            if isinstance(node, Folder):
                node.write(path / name, rand)
            else:
                (path / name).write_bytes(node.survivor(rand))


class PowerDisk(Disk):
    """A real disk, below `root`, that remembers what was done to it. `at_each_step` is called before and after each."""

    def __init__(self, root: Path, at_each_step) -> None:
        self.root = root
        self.tree = self._read(root)
        self._step = at_each_step
        self._files = {}

    def _read(self, path: Path):
        if not path.is_dir():
            return File(path.read_bytes())
        folder = Folder()
        folder.names = {one.name: self._read(one) for one in path.iterdir()}
        return folder

    def _node(self, path: Path):
        node = self.tree
        for name in path.relative_to(self.root).parts:
            node = node.now()[name]
        return node

    def _change(self, path: Path, node) -> None:
        self._node(path.parent).pending.append((path.name, node))

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._files[fd] = File()
        self._change(path, self._files[fd])
        self._step()
        return fd

    def open(self, path: Path) -> int:
        fd = super().open(path)
        self._files[fd] = self._node(path)
        return fd

    def write(self, fd: int, pieces: Sequence[bytes], at: int) -> int:
        end = super().write(fd, pieces, at)
        self._files[fd].pending.append((at, b"".join(pieces)))
        self._step()
        return end

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self._files[fd].sync()
        self._step()

    def cut(self, fd: int, size: int) -> None:
        super().cut(fd, size)
        self._files[fd].pending.append((size, None))
        self._step()

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        node = self._node(old)
        # One step: the old name's going is never there without the new name's coming.
        folder = self._node(old.parent)
        folder.pending.append((new.name, node))
        folder.pending.append((old.name, None))
        self._step()

    def remove(self, path: Path) -> None:
        super().remove(path)
        self._change(path, None)
        self._step()

    def remove_folder(self, path: Path) -> None:
        super().remove_folder(path)
        self._change(path, None)
        self._step()

    def make_folder(self, path: Path) -> None:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in reversed(missing):
            self._change(folder, Folder())
        for folder in missing:
            self.sync_folder(folder.parent)

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        self._node(path).sync()
        self._step()

    def lock(self, path: Path) -> int | None:
        is_new = not path.exists()
        fd = super().lock(path)
        if is_new:
            self._change(path, File())
        self._step()
        return fd

    def reserve(self, path: Path, size: int, spare: int) -> None:
        """No part of this."""
