"""LoRA in PEFT's own format, read without PEFT: beside a backbone's weights or merged into them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import RunError
from ..files import read_json, shown
from ..model.lora import add_lora
from .manifest import LORA, LORA_CONFIG
from .tensors import Layout, check_tensors, read_tensors

LORA_IS: Mapping[str, Any] = {  # values that PEFT's file may hold, besides empty ones
    "peft_type": "LORA",
    "bias": "none",
    "init_lora_weights": True,
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
}
LORA_TELLS = (
    *("r", "lora_alpha", "lora_dropout", "target_modules", "task_type", "inference_mode"),
    *("auto_mapping", "base_model_name_or_path", "revision", "peft_version"),
)  # keys with any value: the first two are read, and the tensors tell which layers there are


def clean_adapter_config(path: Path, model: str) -> None:
    """No local path leaves in PEFT's file: the base model is named as the user named it."""
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = model
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


def read_lora_config(folder: Path) -> tuple[int, int]:
    """Rank and alpha of an adapter folder's LoRA; raises RunError if PEFT's file asks for anything but LoRA as
    `lora_config` makes it. PEFT itself never reads the file: it imports modules that such a file names."""
    path = folder / LORA_CONFIG
    config = read_json(path, TypeAdapter(dict[str, Any]))
    for name, value in config.items():
        if value != LORA_IS[name] if name in LORA_IS else value and name not in LORA_TELLS:
            allowed = shown(LORA_IS[name]) if name in LORA_IS else "nothing"
            raise RunError(f"{path} is refused: {shown(name)} is {shown(value)}; allowed: {allowed}")
    numbers = []
    for name in ("r", "lora_alpha"):
        value = config.get(name)
        if type(value) is not int or not 1 <= value < 2**16:
            raise RunError(f"{path} is refused: {name} is {shown(value)}; a whole number from 1 to 65,535 is allowed")
        numbers.append(value)
    return numbers[0], numbers[1]


def read_lora(folder: Path, backbone: nn.Module) -> tuple[int, int, dict[str, Tensor]]:
    """Rank, alpha and tensors of an adapter folder's LoRA; raises RunError if they do not fit each other or the
    linear layers of the backbone."""
    r, alpha = read_lora_config(folder)
    layout: Layout = {}
    for name, layer in backbone.named_modules():
        if isinstance(layer, (nn.Linear, Conv1D)):
            into, out = ("in_features", "out_features") if isinstance(layer, nn.Linear) else ("nx", "nf")
            layout[f"base_model.model.{name}.lora_A.weight"] = (torch.float32, (r, int(getattr(layer, into))))
            layout[f"base_model.model.{name}.lora_B.weight"] = (torch.float32, (int(getattr(layer, out)), r))
    state = read_tensors(folder / LORA)
    check_tensors(folder / LORA, state, layout)
    return r, alpha, state


def with_lora(backbone: nn.Module, folder: Path) -> nn.Module:
    """The backbone with an adapter folder's LoRA beside its weights, in the dtype of its activations."""
    from peft import set_peft_model_state_dict

    from ..model.fused_lora import fuse_lora

    r, alpha, state = read_lora(folder, backbone)
    peft_model = add_lora(backbone, r, alpha)
    set_peft_model_state_dict(peft_model, state)
    peft_model.requires_grad_(False).eval()
    dtype = backbone.get_input_embeddings().weight.dtype  # type: ignore[operator]
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    fuse_lora(peft_model)
    return peft_model


def merged(backbone: nn.Module, folder: Path) -> nn.Module:
    """The backbone with an adapter folder's LoRA in its weights, summed in float32 and rounded once.

    In bf16 the scores are then no further from those of float32 than with LoRA apart (`scripts/bench decode`).
    """
    r, alpha, state = read_lora(folder, backbone)
    scale = alpha / r
    for key in [k for k in state if k.endswith(".lora_A.weight")]:
        down, up = state[key], state[key.replace(".lora_A.", ".lora_B.")]
        layer = backbone.get_submodule(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        weight = layer.weight
        assert isinstance(weight, Tensor)
        update = (up.float() @ down.float()).to(weight.device)
        if not isinstance(layer, nn.Linear):
            update = update.t()  # transformers' Conv1D, as in GPT-2
        weight.data = weight.float().add_(update, alpha=scale).to(weight.dtype)
    return backbone
