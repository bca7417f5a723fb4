"""Causal attention that trains several times faster on a CPU than torch's own kernel (`scripts/bench train`).

torch's kernel computes the whole square of scores, of which half is masked, and computes it again going backwards. Here
queries go in chunks over the keys up to their end only, query heads that share a key head share one matrix product,
and the probabilities are kept for the backward pass: (batch, heads, length, length) / 2 of the activations' dtype.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "chunked"
CHUNK = 128  # queries per matrix product; 64 to 192 are alike


class ChunkedAttention(torch.autograd.Function):
    """softmax(scale q k^T + mask) v of q (batch, key heads, group, length, width) and k, v (batch, key heads, length,
    width); blocked (batch or 1, 1, length, length) is true where a query must not attend, all keys
    ahead of it included."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, blocked: Tensor, scale: float) -> Tensor:
        """Like q in shape."""
        batch, heads, group, length, width = q.shape
        q = q * scale
        out = torch.empty_like(q)
        saved = []
        for start in range(0, length, CHUNK):
            end = min(start + CHUNK, length)
            chunk = q[..., start:end, :].reshape(batch, heads, -1, width)
            scores = (chunk @ k[:, :, :end].transpose(-1, -2)).view(batch, heads, group, end - start, end)
            scores.masked_fill_(blocked[:, :, None, start:end, :end], torch.finfo(q.dtype).min)
            probs = scores.softmax(-1).view(batch, heads, -1, end)
            out[..., start:end, :] = (probs @ v[:, :, :end]).view(batch, heads, group, -1, width)
            saved.append(probs)
        ctx.save_for_backward(q, k, v, *saved)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v."""
        q, k, v, *saved = ctx.saved_tensors
        batch, heads, group, length, width = q.shape
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for probs, start in zip(saved, range(0, length, CHUNK), strict=True):
            end = min(start + CHUNK, length)
            grad_out = grad[..., start:end, :].reshape(batch, heads, -1, width)
            chunk = q[..., start:end, :].reshape(batch, heads, -1, width)
            grad_probs = grad_out @ v[:, :, :end].transpose(-1, -2)
            grad_scores = torch._softmax_backward_data(grad_probs, probs, -1, probs.dtype)
            grad_q[..., start:end, :] = (grad_scores @ k[:, :, :end]).view(batch, heads, group, -1, width)
            grad_k[:, :, :end] += grad_scores.transpose(-1, -2) @ chunk
            grad_v[:, :, :end] += probs.transpose(-1, -2) @ grad_out
        return grad_q * ctx.scale, grad_k, grad_v, None, None


def chunked_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (batch, heads, length, width) to (batch, length, heads, width).

    attention_mask: None for plain causal attention, else bool (batch, 1, length, length), causal. Other calls (dropout,
    a cache, a position bias, ...) go to transformers' `sdpa`.
    """
    batch, heads, length, width = query.shape
    plain = (
        not dropout
        and key.shape[2] == length
        and value.shape[3] == width
        and (attention_mask is None or attention_mask.dtype == torch.bool)
    )
    if not plain or scaling is None or any(kwargs.get(k) is not None for k in ("position_bias", "softcap", "s_aux")):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if attention_mask is None:
        attention_mask = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    grouped = query.to(value.dtype).reshape(batch, key.shape[1], -1, length, width)
    out: Tensor = ChunkedAttention.apply(grouped, key.to(value.dtype), value, ~attention_mask, scaling)
    return out.reshape(batch, heads, length, width).transpose(1, 2).contiguous(), None


def chunk_attention(model: PreTrainedModel) -> None:
    """Let a model on a CPU that uses transformers' `sdpa` attend in chunks."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, chunked_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
