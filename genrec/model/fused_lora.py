"""LoRA layers that train faster on a CPU: one matrix product with the merged weight, small ones for the gradients only.

PEFT adds B(A x) to W x in the forward pass: two thin products, a multiplication and an addition over all activations,
per layer. Here W + s B A is formed once per step (cheap: it has no batch dimension), and the backward pass computes the
gradients of A and B without that of W. Only for float32 weights, whose rounding does not swallow the update, and only
in training.
"""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

LARGEST = 1_000_000_000  # weights beyond which a second copy of them costs more memory than the time is worth


class MergedLinear(torch.autograd.Function):
    """y = x (W + s B A)^T + bias with gradients for x, A (r, in) and B (out, r); W and bias are frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """The product with the merged weight, which is kept for the backward pass."""
        merged = torch.addmm(weight, b, a, alpha=scale)
        ctx.save_for_backward(x, merged, a, b)
        ctx.scale = scale
        return nn.functional.linear(x, merged, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, A and B."""
        x, merged, a, b = ctx.saved_tensors
        flat_grad, flat_x = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        grad_x = (flat_grad @ merged).reshape(x.shape) if ctx.needs_input_grad[0] else None
        grad_a = ctx.scale * ((flat_grad @ b).t() @ flat_x)
        grad_b = ctx.scale * (flat_grad.t() @ (flat_x @ a.t()))
        return grad_x, None, None, grad_a, grad_b, None


def fuse_lora(backbone: nn.Module) -> int:
    """Let the LoRA layers of a PEFT model train through MergedLinear where they can; returns how many do."""
    parameters = list(backbone.parameters())
    if parameters[0].device.type != "cpu" or sum(p.numel() for p in parameters) > LARGEST:
        return 0
    fused = 0
    for module in backbone.modules():
        if isinstance(module, LoraLinear) and module.get_base_layer().weight.dtype == torch.float32:
            _fuse(module)
            fused += 1
    return fused


def _fuse(module: LoraLinear) -> None:
    plain = module.forward
    base = module.get_base_layer()
    a, b = module.lora_A["default"], module.lora_B["default"]
    scale = module.scaling["default"]

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not module.training:
            return plain(x, *args, **kwargs)
        found: Tensor = MergedLinear.apply(x, base.weight, base.bias, a.weight, b.weight, scale)
        return found

    module.forward = forward  # type: ignore[method-assign]
