"""A random two-block Llama or T5 with a word-level tokenizer, written as a folder: loads in a moment, for tests."""

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Digits, Punctuation, Sequence, WhitespaceSplit
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)


def word_tokenizer(words: list[str], **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer that knows these words, digits, punctuation and special tokens."""
    known = [*special.values(), *string.digits, *string.punctuation, *words]
    vocabulary = {word: place for place, word in enumerate(dict.fromkeys(known))}
    words_only = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words_only.pre_tokenizer = Sequence([WhitespaceSplit(), Punctuation(), Digits(individual_digits=True)])
    return PreTrainedTokenizerFast(tokenizer_object=words_only, **special)


def tiny_backbone(folder: Path, words: list[str], hidden_size: int = 32, layers: int = 2) -> Path:
    """Write a Llama and its tokenizer; same input, same weights."""
    tokenizer = word_tokenizer(words, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=3,
    )
    return written(folder, LlamaForCausalLM, config, tokenizer)


def tiny_t5(folder: Path, words: list[str], hidden_size: int = 32, layers: int = 2) -> Path:
    """Write a T5 and its tokenizer, which has no token that begins a text; same input, same weights."""
    tokenizer = word_tokenizer(words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    config = T5Config(
        vocab_size=len(tokenizer) + 5,  # a table longer than the tokenizer, as T5's
        d_model=hidden_size,
        d_kv=hidden_size // 4,
        d_ff=2 * hidden_size,
        num_layers=layers,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return written(folder, T5ForConditionalGeneration, config, tokenizer)


def written(folder: Path, kind: Any, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The folder with a random model of this kind, drawn from seed 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
