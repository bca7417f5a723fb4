"""Identifiers of several tokens: a trie over them, exact scores under a causal model, and beams that stay in the trie.

The score of an identifier is the sum of the log-probabilities of its tokens and of the end token after them, each over
the model's full vocabulary, so that lists are those of transformers' constrained beams with `length_penalty=0`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

AT_A_TIME = 32  # identifiers scored in one row


@dataclass(frozen=True)
class Trie:
    """Nodes level by level, the root first; the children of node n are the nodes from first[n] to first[n + 1].

    token, parent: (nodes,), the token that leads to a node and the node it comes from. order: (n,) identifiers in the
    order of their tokens; those below node n are order[low[n] : high[n]], more than one at a leaf where tokens are
    equal. leaf: (n,), the node of each identifier's end token.
    """

    token: Tensor
    parent: Tensor
    first: Tensor
    low: Tensor
    high: Tensor
    order: Tensor
    leaf: Tensor

    def to(self, device: torch.device) -> "Trie":
        """The same on a device."""
        return Trie(**{name: value.to(device) for name, value in vars(self).items()})


def build_trie(identifiers: Sequence[Sequence[int]], end: int) -> Trie:
    """A trie over token sequences, each closed by the end token; an identifier may be the beginning of another."""
    lengths = np.asarray([len(i) + 1 for i in identifiers])
    table = np.full((len(identifiers), lengths.max(initial=0)), -1)
    for row, tokens in zip(table, identifiers, strict=True):
        row[: len(tokens) + 1] = [*tokens, end]
    order = np.lexsort(table.T[::-1]) if table.size else np.zeros(0, dtype=np.int64)
    table, lengths = table[order], lengths[order]
    at = np.zeros(len(order), dtype=np.int64)  # the node that each identifier has come to
    differs = np.zeros(len(order), dtype=bool)
    differs[:1] = True
    token, parent, low, high = [np.asarray([-1])], [np.asarray([-1])], [np.asarray([0])], [np.asarray([len(order)])]
    nodes = 1
    for level in range(table.shape[1]):
        differs[1:] |= table[1:, level] != table[:-1, level]
        alive = lengths > level
        new = np.nonzero(differs & alive)[0]
        token.append(table[new, level])
        parent.append(at[new])
        at[alive] = nodes + np.cumsum(differs & alive)[alive] - 1
        nodes += len(new)
        low.append(new)
        high.append(new + np.bincount(np.searchsorted(new, np.nonzero(alive)[0], "right") - 1, minlength=len(new)))
    parents = np.concatenate(parent)
    leaf = np.empty_like(at)
    leaf[order] = at
    arrays = {
        "token": np.concatenate(token),
        "parent": parents,
        "first": np.searchsorted(parents[1:], np.arange(nodes + 1)) + 1,
        "low": np.concatenate(low),
        "high": np.concatenate(high),
        "order": order,
        "leaf": leaf,
    }
    return Trie(**{name: torch.from_numpy(np.asarray(value, dtype=np.int64)) for name, value in arrays.items()})


@torch.inference_mode()
def exact_scores(model: Any, prompt: Sequence[int], trie: Trie, wanted: np.ndarray) -> np.ndarray:
    """Log-probabilities (wanted,) float64 of these identifiers after a prompt.

    The prompt is read once; the identifiers follow it as one row of branches, in which common beginnings are read once.
    """
    if not len(wanted):
        return np.zeros(0)
    device = model.device
    tokens = torch.as_tensor([list(prompt)], device=device)
    cache = DynamicCache(config=model.config)
    last = model(input_ids=tokens, cache=cache, use_cache=True, logits_to_keep=1).logits[0]
    trie = trie.to(device)
    leaves, back = torch.unique(trie.leaf[torch.as_tensor(wanted, device=device)], return_inverse=True)
    leaves = leaves[torch.argsort(trie.low[leaves])]  # neighbours share the most
    found = torch.empty(len(trie.token), dtype=torch.float64, device=device)
    for part in leaves.split(AT_A_TIME):
        found[part] = _branch_scores(model, last, cache, tokens.shape[1], trie, part)
    scores: np.ndarray = found[torch.sort(leaves).values[back]].cpu().numpy()
    return scores


def _branch_scores(model: Any, last: Tensor, cache: DynamicCache, length: int, trie: Trie, leaves: Tensor) -> Tensor:
    """Log-probabilities of these leaves; last: (1, vocabulary), the scores after the prompt, which the cache keeps."""
    path = [leaves]  # from the leaves upwards; at the root a path waits for the longer ones
    while path[-1].any():
        path.append(trie.parent[path[-1]].clamp_min(0))
    inner = torch.unique(torch.cat(path[1:]))  # the root and all nodes that are no leaf, parents before children
    read = inner[1:]
    if len(read):
        place, above = torch.arange(len(read), device=read.device), read
        visible = torch.zeros(len(read), len(inner), dtype=torch.bool, device=read.device)
        depth = torch.zeros_like(read)
        while above.any():
            visible[place, torch.searchsorted(inner, above)] = True
            depth += above > 0
            above = trie.parent[above].clamp_min(0)
        visible = torch.cat([visible.new_ones(len(read), length), visible[:, 1:]], 1)
        logits = _read(model, trie.token[read][None], visible[None], (length - 1 + depth)[None], cache)[0]
        cache.crop(-len(read))
        last = torch.cat([last, logits])
    total = torch.logsumexp(last.float(), 1)
    scores = torch.zeros(len(leaves), dtype=torch.float64, device=leaves.device)
    for nodes in path:
        come_from = torch.searchsorted(inner, trie.parent[nodes].clamp_min(0))
        step = last[come_from, trie.token[nodes].clamp_min(0)].float() - total[come_from]
        scores += torch.where(nodes > 0, step, 0.0)
    return scores


def _read(model: Any, tokens: Tensor, visible: Tensor, position: Tensor, cache: DynamicCache) -> Tensor:
    """Scores (rows, tokens, vocabulary) of what follows each token; visible: (rows, tokens, all tokens so far)."""
    mask = torch.zeros(visible.shape, dtype=model.dtype, device=visible.device)
    mask = mask.masked_fill(~visible, torch.finfo(model.dtype).min)[:, None]
    logits: Tensor = model(
        input_ids=tokens, attention_mask=mask, position_ids=position, cache=cache, use_cache=True
    ).logits
    return logits


@torch.inference_mode()
def beam_search(
    model: Any, prompts: Sequence[Sequence[int]], trie: Trie, allowed: np.ndarray, beams: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The likeliest identifiers after each prompt that beams find, and their log-probabilities, best first.

    allowed: (prompts, n) bool. A beam that ends counts where it is among the best `beams` of its step, and a prompt is
    done when no open beam can become one of its best `beams` ended ones, as in transformers. A prompt is read once: its
    beams are branches of one row, so nothing of the cache is copied or reordered.
    """
    device, n = model.device, len(prompts)
    trie = trie.to(device)
    longest = max(len(p) for p in prompts)
    tokens = torch.zeros(n, longest, dtype=torch.long)
    shown = torch.zeros(n, longest, dtype=torch.bool)
    for row, there, prompt in zip(tokens, shown, prompts, strict=True):
        row[longest - len(prompt) :], there[longest - len(prompt) :] = torch.as_tensor(list(prompt)), True
    tokens, shown = tokens.to(device), shown.to(device)
    position = (shown.long().cumsum(1) - 1).clamp_min(0)
    cache = DynamicCache(config=model.config)
    options = {"attention_mask": shown.long(), "position_ids": position, "cache": cache, "use_cache": True}
    logits = model(input_ids=tokens, logits_to_keep=1, **options).logits  # (prompts, beams, vocabulary)
    position = position[:, -1:].expand(n, beams)
    open_to = torch.as_tensor(allowed, device=device)[:, trie.order].long().cumsum(1)
    open_to = torch.nn.functional.pad(open_to, (1, 0))
    visible = shown[:, None]
    node, score = torch.zeros(n, 1, dtype=torch.long, device=device), torch.zeros(n, 1, device=device)
    ended = torch.zeros(n, beams, dtype=torch.long, device=device)
    ended_score = torch.full((n, beams), -torch.inf, device=device)
    itself = torch.eye(beams, dtype=torch.bool, device=device).expand(n, beams, beams)
    while True:
        best, child, beam = _best_children(logits, trie, open_to, node, score, 2 * beams)
        ends = trie.first[child] == trie.first[child + 1]
        just_ended = best[:, :beams].masked_fill(~ends[:, :beams], -torch.inf)
        ended_score, kept = torch.cat([ended_score, just_ended], 1).topk(beams, 1)
        ended = torch.cat([ended, child[:, :beams]], 1).gather(1, kept)
        score, kept = best.masked_fill(ends, -torch.inf).topk(beams, 1)
        score[score[:, 0] <= ended_score[:, -1]] = -torch.inf
        if score.isneginf().all():
            break
        node, beam = child.gather(1, kept), beam.gather(1, kept)
        position = position + 1
        visible = torch.cat([visible.gather(1, beam[..., None].expand(-1, -1, visible.shape[2])), itself], 2)
        logits = _read(model, trie.token[node].clamp_min(0), visible, position, cache)
    return [_identifiers(trie, *found) for found in zip(ended, ended_score, allowed, strict=True)]


def _best_children(
    logits: Tensor, trie: Trie, open_to: Tensor, node: Tensor, score: Tensor, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, nodes and beams, each (prompts, most), of the best continuations; -inf where there are no more.

    Only scores of children are gathered, never a mask of the vocabulary. open_to: (prompts, n + 1), how many allowed
    identifiers come before each place of the trie's order.
    """
    n, beams = node.shape
    total = torch.logsumexp(logits.float(), 2).flatten()
    counts = (trie.first[node + 1] - trie.first[node]).masked_fill(score.isneginf(), 0)
    of_beam = torch.repeat_interleave(torch.arange(n * beams, device=node.device), counts.flatten())
    starts = counts.flatten().cumsum(0) - counts.flatten()
    child = trie.first[node.flatten()[of_beam]] + torch.arange(len(of_beam), device=node.device) - starts[of_beam]
    prompt = of_beam // beams
    values = score.flatten()[of_beam] + logits.flatten(0, 1)[of_beam, trie.token[child]].float() - total[of_beam]
    is_open = open_to[prompt, trie.high[child]] > open_to[prompt, trie.low[child]]
    of_prompt = counts.sum(1)
    column = torch.arange(len(of_beam), device=node.device) - (of_prompt.cumsum(0) - of_prompt)[prompt]
    shape = n, max(most, int(of_prompt.max()))
    table = torch.full(shape, -torch.inf, device=node.device)
    table[prompt, column] = values.masked_fill(~is_open, -torch.inf)
    children, of_beams = (torch.zeros(shape, dtype=torch.long, device=node.device) for _ in range(2))
    children[prompt, column], of_beams[prompt, column] = child, of_beam % beams
    best, place = table.topk(most, 1)
    return best, children.gather(1, place), of_beams.gather(1, place)


def _identifiers(trie: Trie, ended: Tensor, score: Tensor, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The allowed identifiers of the leaves that one prompt's beams ended at, and their scores."""
    index, scores = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for node, value in zip(ended.tolist(), score.tolist(), strict=True):
        if value > -np.inf:
            below = trie.order[trie.low[node] : trie.high[node]].cpu().numpy()
            index.append(np.sort(below[allowed[below]]))
            scores.append(np.full(len(index[-1]), value))
    return np.concatenate(index), np.concatenate(scores)
