"""LoRA layers with few passes over the activations: what PEFT computes, in the dtype of the frozen weight.

PEFT casts the input to float32, multiplies twice, scales and adds, each a pass over all activations of its own, and
autograd repeats that backwards. Here the update is accumulated into the product by the matrix library itself, and the
backward pass is written out. Quantized layers keep PEFT's own forward.
"""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn


class LoraProduct(torch.autograd.Function):
    """y = x W^T + s (x A^T) B^T + bias with gradients for x, A (r, in) and B (out, r); W and bias are frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """The product (..., out) in the dtype of `weight`."""
        flat = x.reshape(-1, x.shape[-1]).to(weight.dtype)
        a, b = a.to(weight.dtype), b.to(weight.dtype)
        low = flat @ a.t()
        out = nn.functional.linear(flat, weight, bias).addmm_(low, b.t(), alpha=scale)
        ctx.save_for_backward(flat, low, weight, a, b)
        ctx.scale, ctx.shape, ctx.dtype = scale, x.shape, x.dtype
        return out.reshape(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, A and B."""
        flat, low, weight, a, b = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1]).to(weight.dtype)
        grad_low = grad @ b
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_low, a, alpha=ctx.scale).reshape(ctx.shape).to(ctx.dtype)
        grad_a = (grad_low.t() @ flat).float() * ctx.scale
        grad_b = (grad.t() @ low).float() * ctx.scale
        return grad_x, None, None, grad_a, grad_b, None


def fuse_lora(backbone: nn.Module) -> int:
    """Let the unquantized LoRA layers of a PEFT model run through LoraProduct; returns how many do."""
    fused = 0
    for module in backbone.modules():
        if isinstance(module, LoraLinear) and type(module.get_base_layer()) is nn.Linear:
            _fuse(module)
            fused += 1
    return fused


def _fuse(module: LoraLinear) -> None:
    original_forward = module.forward
    base = module.get_base_layer()
    a, b = module.lora_A["default"], module.lora_B["default"]
    scale = module.scaling["default"]

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if module.disable_adapters or module.merged:
            return original_forward(x, *args, **kwargs)
        with torch.autocast(x.device.type, enabled=False):  # the weight's dtype decides
            out: Tensor = LoraProduct.apply(x, base.weight, base.bias, a.weight, b.weight, scale)
        return out

    module.forward = forward  # type: ignore[method-assign]
