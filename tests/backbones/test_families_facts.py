"""What the other families' stock pipelines do, at tiny size: facts that the backbones rest on."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import DEFAULT_PROMPT_TEMPLATE
from diffusers.pipelines.wan import pipeline_wan_i2v, pipeline_wan_vace
from transformers import LlamaTokenizerFast

from tests.backbones.tiny_families import FAMILIES, HEIGHT, PROMPT, WIDTH, picture, run

Pipelines = Callable[[str], Any]
KINDS = list(FAMILIES)


@pytest.mark.parametrize("kind", KINDS)
def test_the_stock_pipeline_runs(kind: str, tiny_pipeline: Pipelines) -> None:
    frames = run(kind, tiny_pipeline(kind))
    assert frames.shape == (FAMILIES[kind].frames - FAMILIES[kind].dropped, 3, HEIGHT, WIDTH)
    assert torch.isfinite(frames).all()
    assert frames.std((0, 2, 3)).min() > 0.03  # not a flat grey, on which any two latents look alike


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_folder_gives_the_same_video(
    kind: str, tiny_pipeline: Pipelines, tiny_folder: Callable[..., Path]
) -> None:
    expected = run(kind, tiny_pipeline(kind))
    loaded = DiffusionPipeline.from_pretrained(tiny_folder(kind))
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded) is type(tiny_pipeline(kind))
    assert {part.dtype for part in loaded.components.values() if isinstance(part, torch.nn.Module)} == {torch.float32}
    torch.testing.assert_close(run(kind, loaded), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_prompt_and_the_picture_reach_the_network(kind: str, tiny_pipeline: Pipelines) -> None:
    pipe = tiny_pipeline(kind)
    call = FAMILIES[kind].call(FAMILIES[kind].frames)
    other = {"image": picture(5)} if "image" in call else {"video": [picture(5), *call["video"][1:]]}
    expected = run(kind, pipe, output_type="latent")
    for change in ({"prompt": "A red train."}, other):
        assert (run(kind, pipe, output_type="latent", **change) - expected).abs().max() > 1e-4, change


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_scheduler_sees(kind: str, tiny_pipeline: Pipelines) -> None:
    family = FAMILIES[kind]
    frames = family.latent_frames - family.held + family.padded
    layout = (frames, family.channels) if family.time_first else (family.channels, frames)
    cells = (HEIGHT // family.factor, WIDTH // family.factor)
    assert _shapes_at_the_scheduler(kind, tiny_pipeline(kind)) == {(1, *layout, *cells)}


def test_vace_makes_a_latent_frame_more_for_each_reference_picture(tiny_pipeline: Pipelines) -> None:
    pipe = tiny_pipeline("wan_vace")
    assert _shapes_at_the_scheduler("wan_vace", pipe, reference_images=[picture(3), picture(4)]) == {(1, 16, 5, 4, 8)}


def _shapes_at_the_scheduler(kind: str, pipe: Any, **changes: Any) -> set[tuple[int, ...]]:
    step, shapes = pipe.scheduler.step, set()

    @functools.wraps(step)  # the pipelines look at its arguments
    def watched(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(step).bind(*args, **kwargs).arguments
        assert given["sample"].shape == given["model_output"].shape
        shapes.add(tuple(given["sample"].shape))
        return step(*args, **kwargs)

    pipe.scheduler.step = watched
    try:
        run(kind, pipe, output_type="latent", **changes)
    finally:
        del pipe.scheduler.step
    return shapes


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("wan21", {8: 9, 11: 9, 13: 13}),
        ("ltx", {8: 1, 11: 9, 19: 17}),
        ("hunyuan_replace", {8: 5, 11: 9, 13: 13}),
        ("hunyuan_concat", {8: 1, 11: 5, 13: 9}),
        ("hunyuan15", {8: 5, 11: 9, 13: 13}),
        # Latent frames are decoded two by two, and only an odd number leaves frame 0 alone: 8 k + 1 frames are right.
        ("cogvideox15", {5: 8, 9: 9, 11: 9, 13: 16, 17: 17, 21: 24}),
    ],
)
def test_frame_counts_that_the_stock_pipeline_changes_in_silence(
    kind: str, made: dict[int, int], tiny_pipeline: Pipelines
) -> None:
    pipe = tiny_pipeline(kind)
    assert {asked: len(run(kind, pipe, num_frames=asked, num_inference_steps=2)) for asked in made} == made


def test_cogvideox_works_at_the_size_of_its_config_only(tiny_pipeline: Pipelines) -> None:
    """The learned positions of 5b-I2V: 480 x 720 as published, any number of frames."""
    with pytest.raises(ValueError, match="different resolution"):
        run("cogvideox", tiny_pipeline("cogvideox"), height=2 * HEIGHT)
    assert len(run("cogvideox", tiny_pipeline("cogvideox"), num_frames=17)) == 17
    assert run("cogvideox15", tiny_pipeline("cogvideox15"), height=2 * HEIGHT).shape == (9, 3, 2 * HEIGHT, WIDTH)


def test_ltx_needs_two_steps(tiny_pipeline: Pipelines) -> None:
    """Its schedule is stretched to end at 0.1: one sigma alone divides zero by zero."""
    with pytest.warns(RuntimeWarning, match="invalid value"), pytest.raises(IndexError):
        run("ltx", tiny_pipeline("ltx"), num_inference_steps=1)


def test_wan_takes_a_last_image_only_where_the_model_was_made_for_it(tiny_pipeline: Pipelines) -> None:
    last: dict[str, Any] = {"last_image": picture(1)}
    with pytest.raises(RuntimeError, match="size of tensor|must match"):
        run("wan21", tiny_pipeline("wan21"), **last)
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        run("wan21_last_image", tiny_pipeline("wan21_last_image"), last_image=None)
    a14b, small = tiny_pipeline("wan22_a14b"), tiny_pipeline("wan22_5b")
    assert not torch.equal(run("wan22_a14b", a14b, **last), run("wan22_a14b", a14b))
    assert torch.equal(run("wan22_5b", small, **last), run("wan22_5b", small))  # dropped in silence


def test_a14b_crosses_its_boundary(tiny_pipeline: Pipelines) -> None:
    """Four steps use both experts: the tests of equality rest on it."""
    for kind in ("wan22_a14b", "wan22_a14b_euler"):
        pipe = tiny_pipeline(kind)
        run(kind, pipe)
        assert [bool(t >= 1000 * pipe.config.boundary_ratio) for t in pipe.scheduler.timesteps].count(True) in (1, 2, 3)


@pytest.mark.parametrize("module", [pipeline_wan_i2v, pipeline_wan_vace])
def test_wan_needs_ftfy_for_a_prompt(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.prompt_clean(" a  cat &amp; a dog ") == "a cat & a dog"
    monkeypatch.delattr(module, "ftfy")
    with pytest.raises(NameError, match="ftfy"):
        module.prompt_clean("a cat")


@pytest.mark.parametrize("kind", ["wan22_5b", "ltx"])
def test_the_published_index_names_the_text_to_video_pipeline(
    kind: str, tiny_pipeline: Pipelines, tiny_folder: Callable[..., Path]
) -> None:
    folder = tiny_folder(kind, True)
    kept = {"image_encoder", "image_processor"}  # not parts of WanPipeline: the index of 5B leaves them out
    loaded = DiffusionPipeline.from_pretrained(folder)
    assert type(loaded) is getattr(diffusers, FAMILIES[kind].published_class)
    assert "image" not in inspect.signature(loaded.__call__).parameters
    right = type(tiny_pipeline(kind)).from_pretrained(folder)
    right.set_progress_bar_config(disable=True)
    assert set(right.components) - kept == set(loaded.components) - kept
    torch.testing.assert_close(run(kind, right), run(kind, tiny_pipeline(kind)), atol=1e-3, rtol=0)


def test_hunyuan_loses_the_spaces_of_its_prompt(tiny_pipeline: Pipelines, tiny_folder: Callable[..., Path]) -> None:
    """Transformers 5 reads the byte-level tokenizer of Llama 3 as if it were Llama 2's when asked by its old name."""
    right = tiny_pipeline("hunyuan_replace").tokenizer
    assert right.decode(right(PROMPT).input_ids, skip_special_tokens=True) == PROMPT
    wrong = LlamaTokenizerFast.from_pretrained(tiny_folder("hunyuan_replace") / "tokenizer")
    assert " " not in wrong.decode(wrong(PROMPT).input_ids, skip_special_tokens=True)
    loaded = DiffusionPipeline.from_pretrained(tiny_folder("hunyuan_replace", True))
    assert loaded.tokenizer(PROMPT).input_ids == wrong(PROMPT).input_ids != right(PROMPT).input_ids


def test_hunyuan_crops_its_template_from_the_prompt(tiny_pipeline: Pipelines) -> None:
    """The vocabularies made here count as the published ones do, so that what is left is the prompt."""
    pipe = tiny_pipeline("hunyuan_replace")
    template: dict[str, Any] = DEFAULT_PROMPT_TEMPLATE
    tokens = pipe.tokenizer(template["template"].format("slowly")).input_ids
    cropped = pipe.tokenizer.decode(tokens[template["crop_start"] :])
    assert cropped.startswith("slowly<|eot_id|>")
    assert tokens.index(pipe.text_encoder.config.image_token_index) == template["image_emb_start"]

    pipe = tiny_pipeline("hunyuan15")
    messages = [{"role": "system", "content": pipe.system_message}, {"role": "user", "content": "slowly"}]
    tokens = pipe.tokenizer.apply_chat_template(messages, return_dict=True).input_ids
    assert pipe.tokenizer.decode(tokens[pipe.prompt_template_encode_start_idx :]).startswith("slowly<|im_end|>")


@pytest.mark.parametrize(("kind", "embedded"), [("hunyuan_replace", True), ("hunyuan_concat", False)])
def test_hunyuan_has_its_guidance_scale_embedded_or_not_at_all(
    kind: str, embedded: bool, tiny_pipeline: Pipelines
) -> None:
    pipe = tiny_pipeline(kind)
    assert pipe.transformer.config.guidance_embeds == embedded
    assert torch.equal(run(kind, pipe, guidance_scale=6.0), run(kind, pipe, guidance_scale=1.0)) != embedded
    assert not torch.equal(
        run(kind, pipe, true_cfg_scale=3.0, negative_prompt="dark"), run(kind, pipe, true_cfg_scale=1.0)
    )


def test_hunyuan15_chooses_its_size_itself(tiny_pipeline: Pipelines) -> None:
    frames = run("hunyuan15", tiny_pipeline("hunyuan15"), image=picture().resize((40, 70)), num_frames=1)
    assert frames.shape == (1, 3, 48, 32)
