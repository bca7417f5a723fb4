"""Cached keys and values of the histories read last, so that one that has grown or is asked again is not read anew."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

MIN_TOKENS = 16  # of a prefix; a shorter history is as quickly read anew


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
        for side in (0, 1):
            first = prefixes[0].layers[block][side]
            out = first.new_zeros(len(prefixes), first.shape[1], width, first.shape[3])
            for n, (prefix, length) in enumerate(zip(prefixes, lengths, strict=True)):
                out[n, :, :length] = prefix.layers[block][side][0, :, :length]
            pair.append(out)
        layers.append((pair[0], pair[1]))
    return DynamicCache(layers)


def prefix_of(cache: DynamicCache, n: int, start: int, width: int, length: int, last: Tensor) -> Prefix:
    """The first `length` tokens of row n of a cache, whose cached part of `start` tokens was padded to `width`."""

    def row_of(tensor: Tensor) -> Tensor:
        new = tensor[n : n + 1, :, width : width + length - start]
        return torch.cat([tensor[n : n + 1, :, :start], new], 2) if start else new.clone()

    return Prefix(tuple((row_of(k), row_of(v)) for k, v, _ in cache), length, last)


class PrefixCache:
    """Prefixes by data set and tokens, at most `limit` bytes of them: the least recently used goes first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.hits = self.misses = 0
        self._prefixes: OrderedDict[tuple[str, bytes], Prefix] = OrderedDict()
        self._lengths: Counter[int] = Counter()
        self._lock = threading.Lock()

    def longest(self, dataset: str, tokens: Sequence[int]) -> Prefix | None:
        """The longest cached prefix of a history."""
        key, size = _token_bytes(tokens)
        with self._lock:
            for length in range(len(tokens), MIN_TOKENS - 1, -1):
                if self._lengths[length] and (dataset, key[: length * size]) in self._prefixes:
                    self._prefixes.move_to_end((dataset, key[: length * size]))
                    return self._prefixes[dataset, key[: length * size]]
        return None

    def keep(self, dataset: str, tokens: Sequence[int], prefix: Prefix, grown_from: Prefix | None = None) -> None:
        """Keep the prefix of a history in place of the one that it has grown from."""
        key, size = _token_bytes(tokens)
        with self._lock:
            if grown_from is not None:
                self._drop((dataset, key[: grown_from.length * size]))
            self._drop((dataset, key))
            self._prefixes[dataset, key] = prefix
            self._lengths[prefix.length] += 1
            self.size += prefix.nbytes
            while self.size > self.limit:
                self._drop(next(iter(self._prefixes)))

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._prefixes.clear()
            self._lengths.clear()
            self.size = 0

    def _drop(self, key: tuple[str, bytes]) -> None:
        prefix = self._prefixes.pop(key, None)
        if prefix is not None:
            self._lengths[prefix.length] -= 1
            self.size -= prefix.nbytes


def _token_bytes(tokens: Sequence[int]) -> tuple[bytes, int]:
    """Tokens as bytes, and how many bytes each takes."""
    array = np.asarray(tokens, dtype=np.int32)
    return array.tobytes(), array.itemsize
