"""The fast LoRA layers compute what PEFT's compute."""

import torch
from tiny import tiny_backbone

from genrec.model.adapter import add_lora
from genrec.model.backbone import load_backbone
from genrec.model.fused_lora import fuse_lora


def test_outputs_and_gradients_are_those_of_peft(tmp_path) -> None:
    folder = tiny_backbone(tmp_path / "tiny", ["a"])
    inputs = torch.randn(2, 7, 32)
    found = []
    for fused in (False, True):
        body = load_backbone(str(folder)).model.float()
        torch.manual_seed(0)
        model = add_lora(body, 4, 8).train()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        if fused:
            assert fuse_lora(model) == 14  # seven layers in each of two blocks
        x = inputs.clone().requires_grad_()
        out = model(inputs_embeds=x).last_hidden_state
        out.square().sum().backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        found.append((out.detach(), x.grad, grads))
    (out, grad, grads), (out2, grad2, grads2) = found
    torch.testing.assert_close(out, out2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(grad, grad2, atol=1e-4, rtol=1e-3)
    for name in grads:
        torch.testing.assert_close(grads[name], grads2[name], atol=1e-3, rtol=1e-3)
