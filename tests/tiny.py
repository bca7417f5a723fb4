"""A random two-block Llama with a word-level tokenizer, written as a folder: loads in a moment, for tests."""

import string
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Digits, Punctuation, Sequence, WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def tiny_backbone(folder: Path, words: list[str], hidden_size: int = 32, layers: int = 2) -> Path:
    """Write the model and a tokenizer that knows these words, digits and punctuation; same input, same weights."""
    known = ["<unk>", "<pad>", "<s>", "</s>", *string.digits, *string.punctuation, *words]
    vocabulary = {word: place for place, word in enumerate(dict.fromkeys(known))}
    words_only = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words_only.pre_tokenizer = Sequence([WhitespaceSplit(), Punctuation(), Digits(individual_digits=True)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words_only, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary),
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
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
