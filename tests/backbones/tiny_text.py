"""Tokenizers and text encoders of the tiny families: the published classes, with vocabularies made here."""

import string
from typing import Any

import torch
from transformers import T5Config, T5EncoderModel, T5Tokenizer, UMT5Config, UMT5EncoderModel

WIDTH = 32
"""Width of every tiny text encoder."""

CHARACTERS = string.ascii_letters + string.digits + string.punctuation


def t5_tokenizer(max_length: int) -> Any:
    """One token a character: any two prompts differ."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in CHARACTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=max_length)


def t5_encoder(kind: type = T5EncoderModel, vocab_size: int = 4 + len(CHARACTERS), seed: int = 0) -> Any:
    config = UMT5Config if kind is UMT5EncoderModel else T5Config
    torch.manual_seed(seed)
    model: Any = kind(
        config(
            vocab_size=vocab_size,
            d_model=WIDTH,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=4,
            relative_attention_num_buckets=8,
            feed_forward_proj="gated-gelu",
        )
    )
    return model.eval()
