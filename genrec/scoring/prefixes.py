"""What attention keeps of the histories read last, so that one that has grown, or is asked again, is not read again."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

LEAST = 16  # tokens; a shorter history is as quickly read again


@dataclass(frozen=True)
class Prefix:
    """The first `length` tokens of a row: keys and values (1, heads, length, width) of each block, and the last hidden
    state (width,) float32."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    length: int
    last: Tensor

    @property
    def nbytes(self) -> int:
        """Memory of the keys and values."""
        return sum(t.nbytes for pair in self.layers for t in pair)


def joined(prefixes: Sequence[Prefix], lengths: Sequence[int], width: int) -> DynamicCache:
    """The first `lengths` tokens of several prefixes as one cache, padded to `width` tokens; reading on does not change
    the prefixes."""
    layers = []
    for block in range(len(prefixes[0].layers)):
        pair = []
        for of in (0, 1):
            first = prefixes[0].layers[block][of]
            out = first.new_zeros(len(prefixes), first.shape[1], width, first.shape[3])
            for n, (prefix, length) in enumerate(zip(prefixes, lengths, strict=True)):
                out[n, :, :length] = prefix.layers[block][of][0, :, :length]
            pair.append(out)
        layers.append((pair[0], pair[1]))
    return DynamicCache(layers)


def prefix_of(cache: DynamicCache, n: int, start: int, width: int, length: int, last: Tensor) -> Prefix:
    """The first `length` tokens of row n of a cache, whose known part of `start` tokens was padded to `width`."""

    def own(kept: Tensor) -> Tensor:
        read = kept[n : n + 1, :, width : width + length - start]
        return torch.cat([kept[n : n + 1, :, :start], read], 2) if start else read.clone()

    return Prefix(tuple((own(k), own(v)) for k, v, _ in cache), length, last)


class PrefixCache:
    """Prefixes by data set and tokens, at most `limit` bytes of them: the least recently used goes first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.hits = self.misses = 0
        self._kept: OrderedDict[tuple[str, bytes], Prefix] = OrderedDict()
        self._lengths: Counter[int] = Counter()
        self._lock = threading.Lock()

    def longest(self, dataset: str, tokens: Sequence[int]) -> Prefix | None:
        """The longest prefix kept of a history."""
        written, size = _written(tokens)
        with self._lock:
            for length in range(len(tokens), LEAST - 1, -1):
                if self._lengths[length] and (dataset, written[: length * size]) in self._kept:
                    self._kept.move_to_end((dataset, written[: length * size]))
                    return self._kept[dataset, written[: length * size]]
        return None

    def keep(self, dataset: str, tokens: Sequence[int], prefix: Prefix, grown_from: Prefix | None = None) -> None:
        """Keep the prefix of a history in place of the one that it has grown from."""
        written, size = _written(tokens)
        with self._lock:
            if grown_from is not None:
                self._drop((dataset, written[: grown_from.length * size]))
            self._drop((dataset, written))
            self._kept[dataset, written] = prefix
            self._lengths[prefix.length] += 1
            self.size += prefix.nbytes
            while self.size > self.limit:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
            self._lengths.clear()
            self.size = 0

    def _drop(self, key: tuple[str, bytes]) -> None:
        prefix = self._kept.pop(key, None)
        if prefix is not None:
            self._lengths[prefix.length] -= 1
            self.size -= prefix.nbytes


def _written(tokens: Sequence[int]) -> tuple[bytes, int]:
    """Tokens as bytes, and how many bytes each takes."""
    array = np.asarray(tokens, dtype=np.int32)
    return array.tobytes(), array.itemsize
