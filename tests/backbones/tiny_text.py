"""Tokenizers and text encoders of the tiny families: the published classes, with vocabularies made here."""

import inspect
import json
import string
from typing import Any

import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import DEFAULT_PROMPT_TEMPLATE
from diffusers.pipelines.hunyuan_video1_5 import HunyuanVideo15ImageToVideoPipeline
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.decoders import ByteLevel
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    ByT5Tokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLTextModel,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig

WIDTH = 32
"""Width of every tiny text encoder."""

CHARACTERS = string.ascii_letters + string.digits + string.punctuation


def t5_tokenizer(max_length: int) -> Any:
    """One token a character: any two prompts differ."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in CHARACTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=max_length)


def t5_encoder(kind: type = T5EncoderModel, vocab_size: int = 4 + len(CHARACTERS)) -> Any:
    config = UMT5Config if kind is UMT5EncoderModel else T5Config
    return _seeded(
        kind,
        config(
            vocab_size=vocab_size,
            d_model=WIDTH,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=4,
            relative_attention_num_buckets=8,
            feed_forward_proj="gated-gelu",
        ),
    )


def byt5() -> tuple[Any, Any]:
    """Tokenizer and encoder of the glyphs: one token a byte."""
    tokenizer = ByT5Tokenizer()
    return tokenizer, t5_encoder(vocab_size=len(tokenizer))


def clip() -> tuple[Any, Any]:
    """CLIP tokenizer, one token a byte, and text encoder."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(piece + "</w>" for piece in alphabet)]
    tokenizer = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return tokenizer, _seeded(CLIPTextModel, config)


def llava() -> tuple[Any, Any]:
    """Llama 3 tokenizer and Llava of 576 image tokens, as HunyuanVideo counts them.

    All words of its template are one token each, so that the template is 103 tokens long as the published one is.
    """
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<pad>", "<image>", "<|eot_id|>"]
    special += ["<|start_header_id|>", "<|end_header_id|>"]
    # Llama 3 splits as Qwen 2 does, but keeps up to three digits together.
    split = PRETOKENIZE_REGEX.replace(r"\p{N}|", r"\p{N}{1,3}|")
    backend = _byte_level_bpe(split, special, str(DEFAULT_PROMPT_TEMPLATE["template"]))
    backend.decoder = ByteLevel()
    backend.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        pad_token="<pad>",
        padding_side="right",
        model_max_length=256,
    )
    vision = CLIPVisionConfig(
        hidden_size=8,
        projection_dim=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=37,
        num_hidden_layers=3,  # the third from the end is used
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=special.index("<image>"))
    config.pad_token_id = 2
    return tokenizer, _seeded(LlavaForConditionalGeneration, config)


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen() -> tuple[Any, Any]:
    """Qwen 2 tokenizer and the text part of Qwen 2.5 VL, with HunyuanVideo 1.5's template as 108 tokens."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    encode = inspect.signature(HunyuanVideo15ImageToVideoPipeline._get_mllm_prompt_embeds)
    words = encode.parameters["system_message"].default + "\nsystem\nuser\nassistant\n"
    model: dict[str, Any] = json.loads(_byte_level_bpe(PRETOKENIZE_REGEX, special, words).to_str())["model"]
    merges: list[Any] = [tuple(merge) for merge in model["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=merges,
        extra_special_tokens=special[1:],
        chat_template=CHATML,
    )
    config = Qwen2_5_VLTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    )
    return tokenizer, _seeded(Qwen2_5_VLTextModel, config)


def _byte_level_bpe(split: str, special: list[str], words: str) -> Tokenizer:
    """Bytes, and every word of ``words`` as one token; the special tokens come first."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([words], trainer)
    return tokenizer


def _seeded(kind: Any, config: Any) -> Any:
    torch.manual_seed(0)
    return kind(config).eval()
