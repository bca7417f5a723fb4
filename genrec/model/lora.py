"""LoRA on every linear layer of a backbone."""

import warnings
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel


def add_lora(backbone: torch.nn.Module, r: int, alpha: int) -> "PeftModel":
    """LoRA on every linear layer of the backbone (Hu et al. 2021), its weights in float32."""
    from peft import get_peft_model

    # peft asks an attribute that transformers renames in v6
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(backbone, lora_config(r, alpha))


def lora_config(r: int, alpha: int) -> "LoraConfig":
    """LoRA without dropout: its masks cost a CPU more time than they are worth (measured)."""
    from peft import LoraConfig

    return LoraConfig(r=r, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", bias="none")
