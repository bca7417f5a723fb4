"""The fast layers compute what PEFT and transformers compute."""

import pytest
import torch
from tiny import tiny_backbone
from transformers import AutoModel

from genrec.model.backbone import load_backbone
from genrec.model.fused_lora import fuse_lora
from genrec.model.lora import add_lora


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


def test_lora_can_be_switched_off(tmp_path) -> None:
    body = load_backbone(str(tiny_backbone(tmp_path / "tiny", ["a"]))).model.float()
    x = torch.randn(1, 5, 32)
    before = body(inputs_embeds=x).last_hidden_state
    model = add_lora(body, 4, 8)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    fuse_lora(model)
    assert not torch.allclose(model(inputs_embeds=x).last_hidden_state, before)
    with model.disable_adapter():
        torch.testing.assert_close(model(inputs_embeds=x).last_hidden_state, before)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_chunks_is_that_of_transformers(tmp_path, masked: bool) -> None:
    """A length that is no multiple of a chunk, key heads shared by query heads, a mask with gaps."""
    folder = tiny_backbone(tmp_path / "tiny", ["a"])
    fast = load_backbone(str(folder)).model
    plain = AutoModel.from_pretrained(folder, dtype=fast.dtype).float()
    fast.float()
    assert fast.config._attn_implementation == "chunked" and plain.config._attn_implementation == "sdpa"
    torch.manual_seed(0)
    inputs = torch.randn(2, 300, 32)
    mask = None
    if masked:
        mask = (torch.rand(2, 1, 300, 300) > 0.5).tril() | torch.eye(300, dtype=torch.bool)
    found = []
    for model in (plain, fast):
        x = inputs.clone().requires_grad_()
        out = model(inputs_embeds=x, attention_mask=mask, use_cache=False).last_hidden_state
        out.square().sum().backward()
        found.append((out.detach(), x.grad))
    torch.testing.assert_close(found[1][0], found[0][0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-4, rtol=1e-3)
