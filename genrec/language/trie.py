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
    order of their tokens; those below node n are order[low[n] : high[n]], more than one at a leaf if tokens are
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
    node = np.zeros(len(order), dtype=np.int64)  # the node that each identifier has come to
    differs = np.zeros(len(order), dtype=bool)
    differs[:1] = True
    token, parent, low, high = [np.asarray([-1])], [np.asarray([-1])], [np.asarray([0])], [np.asarray([len(order)])]
    nodes = 1
    for level in range(table.shape[1]):
        differs[1:] |= table[1:, level] != table[:-1, level]
        alive = lengths > level
        new = np.nonzero(differs & alive)[0]
        token.append(table[new, level])
        parent.append(node[new])
        node[alive] = nodes + np.cumsum(differs & alive)[alive] - 1
        nodes += len(new)
        low.append(new)
        high.append(new + np.bincount(np.searchsorted(new, np.nonzero(alive)[0], "right") - 1, minlength=len(new)))
    parents = np.concatenate(parent)
    leaf = np.empty_like(node)
    leaf[order] = node
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
def exact_scores(model: Any, prompt: Sequence[int], trie: Trie, index: np.ndarray) -> np.ndarray:
    """Log-probabilities (n,) float64 of the identifiers `index` (n,) after a prompt.

    The prompt is read once; the identifiers follow it as one row of branches that share common beginnings.
    """
    if not len(index):
        return np.zeros(0)
    device = model.device
    tokens = torch.as_tensor([list(prompt)], device=device)
    cache = DynamicCache(config=model.config)
    last = model(input_ids=tokens, cache=cache, use_cache=True, logits_to_keep=1).logits[0]
    trie = trie.to(device)
    leaves, inverse = torch.unique(trie.leaf[torch.as_tensor(index, device=device)], return_inverse=True)
    leaves = leaves[torch.argsort(trie.low[leaves])]  # neighbours share the most
    leaf_scores = torch.empty(len(trie.token), dtype=torch.float64, device=device)
    for part in leaves.split(AT_A_TIME):
        leaf_scores[part] = _branch_scores(model, last, cache, tokens.shape[1], trie, part)
    scores: np.ndarray = leaf_scores[torch.sort(leaves).values[inverse]].cpu().numpy()
    return scores


def _branch_scores(model: Any, last: Tensor, cache: DynamicCache, length: int, trie: Trie, leaves: Tensor) -> Tensor:
    """Log-probabilities of these leaves; last: (1, vocabulary), the logits after the prompt, which the cache holds."""
    path = [leaves]  # from the leaves upwards; at the root a path waits for the longer ones
    while path[-1].any():
        path.append(trie.parent[path[-1]].clamp_min(0))
    inner = torch.unique(torch.cat(path[1:]))  # the root and all nodes that are no leaf, parents before children
    branch = inner[1:]
    if len(branch):
        row, ancestor = torch.arange(len(branch), device=branch.device), branch
        visible = torch.zeros(len(branch), len(inner), dtype=torch.bool, device=branch.device)
        depth = torch.zeros_like(branch)
        while ancestor.any():
            visible[row, torch.searchsorted(inner, ancestor)] = True
            depth += ancestor > 0
            ancestor = trie.parent[ancestor].clamp_min(0)
        visible = torch.cat([visible.new_ones(len(branch), length), visible[:, 1:]], 1)
        logits = _logits(model, trie.token[branch][None], visible[None], (length - 1 + depth)[None], cache)[0]
        cache.crop(-len(branch))
        last = torch.cat([last, logits])
    total = torch.logsumexp(last.float(), 1)
    scores = torch.zeros(len(leaves), dtype=torch.float64, device=leaves.device)
    for nodes in path:
        parent_row = torch.searchsorted(inner, trie.parent[nodes].clamp_min(0))
        step = last[parent_row, trie.token[nodes].clamp_min(0)].float() - total[parent_row]
        scores += torch.where(nodes > 0, step, 0.0)
    return scores


def _logits(model: Any, tokens: Tensor, visible: Tensor, position: Tensor, cache: DynamicCache) -> Tensor:
    """Logits (rows, tokens, vocabulary) after each token; visible: (rows, tokens, all tokens so far)."""
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

    allowed: (prompts, n) bool. A beam that ends counts if it is among the best `beams` of its step, and a prompt is
    done when no open beam can become one of its best `beams` ended ones, as in transformers. A prompt is read once: its
    beams are branches of one row, so nothing of the cache is copied or reordered.
    """
    device, n = model.device, len(prompts)
    trie = trie.to(device)
    longest = max(len(p) for p in prompts)
    tokens = torch.zeros(n, longest, dtype=torch.long)
    is_token = torch.zeros(n, longest, dtype=torch.bool)
    for row, row_mask, prompt in zip(tokens, is_token, prompts, strict=True):
        row[longest - len(prompt) :], row_mask[longest - len(prompt) :] = torch.as_tensor(list(prompt)), True
    tokens, is_token = tokens.to(device), is_token.to(device)
    position = (is_token.long().cumsum(1) - 1).clamp_min(0)
    cache = DynamicCache(config=model.config)
    options = {"attention_mask": is_token.long(), "position_ids": position, "cache": cache, "use_cache": True}
    logits = model(input_ids=tokens, logits_to_keep=1, **options).logits  # (prompts, beams, vocabulary)
    position = position[:, -1:].expand(n, beams)
    allowed_before = torch.as_tensor(allowed, device=device)[:, trie.order].long().cumsum(1)
    allowed_before = torch.nn.functional.pad(allowed_before, (1, 0))
    visible = is_token[:, None]
    node, score = torch.zeros(n, 1, dtype=torch.long, device=device), torch.zeros(n, 1, device=device)
    ended = torch.zeros(n, beams, dtype=torch.long, device=device)
    ended_score = torch.full((n, beams), -torch.inf, device=device)
    itself = torch.eye(beams, dtype=torch.bool, device=device).expand(n, beams, beams)
    while True:
        best, child, beam = _best_children(logits, trie, allowed_before, node, score, 2 * beams)
        ends = trie.first[child] == trie.first[child + 1]
        just_ended = best[:, :beams].masked_fill(~ends[:, :beams], -torch.inf)
        ended_score, order = torch.cat([ended_score, just_ended], 1).topk(beams, 1)
        ended = torch.cat([ended, child[:, :beams]], 1).gather(1, order)
        score, order = best.masked_fill(ends, -torch.inf).topk(beams, 1)
        score[score[:, 0] <= ended_score[:, -1]] = -torch.inf
        if score.isneginf().all():
            break
        node, beam = child.gather(1, order), beam.gather(1, order)
        position = position + 1
        visible = torch.cat([visible.gather(1, beam[..., None].expand(-1, -1, visible.shape[2])), itself], 2)
        logits = _logits(model, trie.token[node].clamp_min(0), visible, position, cache)
    return [_identifiers(trie, *ended_beams) for ended_beams in zip(ended, ended_score, allowed, strict=True)]


def _best_children(
    logits: Tensor, trie: Trie, allowed_before: Tensor, node: Tensor, score: Tensor, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, nodes and beams, each (prompts, limit), of the best continuations; -inf if there are no more.

    Only scores of children are gathered, never a mask of the vocabulary. allowed_before: (prompts, n + 1), how many
    allowed identifiers come before each position of the trie's order.
    """
    n, beams = node.shape
    total = torch.logsumexp(logits.float(), 2).flatten()
    counts = (trie.first[node + 1] - trie.first[node]).masked_fill(score.isneginf(), 0)
    of_beam = torch.repeat_interleave(torch.arange(n * beams, device=node.device), counts.flatten())
    starts = counts.flatten().cumsum(0) - counts.flatten()
    child = trie.first[node.flatten()[of_beam]] + torch.arange(len(of_beam), device=node.device) - starts[of_beam]
    prompt = of_beam // beams
    values = score.flatten()[of_beam] + logits.flatten(0, 1)[of_beam, trie.token[child]].float() - total[of_beam]
    is_open = allowed_before[prompt, trie.high[child]] > allowed_before[prompt, trie.low[child]]
    of_prompt = counts.sum(1)
    column = torch.arange(len(of_beam), device=node.device) - (of_prompt.cumsum(0) - of_prompt)[prompt]
    shape = n, max(limit, int(of_prompt.max()))
    table = torch.full(shape, -torch.inf, device=node.device)
    table[prompt, column] = values.masked_fill(~is_open, -torch.inf)
    children, of_beams = (torch.zeros(shape, dtype=torch.long, device=node.device) for _ in range(2))
    children[prompt, column], of_beams[prompt, column] = child, of_beam % beams
    best, order = table.topk(limit, 1)
    return best, children.gather(1, order), of_beams.gather(1, order)


def _identifiers(trie: Trie, ended: Tensor, score: Tensor, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The allowed identifiers of the leaves that one prompt's beams ended at, and their scores."""
    index, scores = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for node, value in zip(ended.tolist(), score.tolist(), strict=True):
        if value > -np.inf:
            below = trie.order[trie.low[node] : trie.high[node]].cpu().numpy()
            index.append(np.sort(below[allowed[below]]))
            scores.append(np.full(len(index[-1]), value))
    return np.concatenate(index), np.concatenate(scores)
