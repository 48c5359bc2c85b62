"""Sizes and memory of models: against numbers worked by hand, and against models that PyTorch built."""

from __future__ import annotations

import pytest
import torch

from workbench.scale import footprint as f
from workbench.scale.footprint import Training
from workbench.scale.shapes import (
    PRESETS,
    Shape,
    attention_flops,
    body_flops,
    head_flops,
    kv_bytes,
    lora_parameters,
    of_config,
    of_folder,
    parameters,
    preset,
)

SMALL = Shape("small", 2, 8, 2, 1, 4, 12, 100, tied=True)
# attention 8 * (2 + 2) * 4 + 2 * 4 * 8 = 192, MLP 3 * 8 * 12 = 288, norms 16: 496 a layer; 2 * 496 + 800 + 8


def config_of(name):
    """The configuration of transformers whose shape a preset is."""
    from transformers import LlamaConfig, Qwen2Config

    s = PRESETS[name]
    kind = Qwen2Config if s.qkv_bias else LlamaConfig
    return kind(
        vocab_size=s.vocab,
        hidden_size=s.hidden,
        intermediate_size=s.intermediate,
        num_hidden_layers=s.layers,
        num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads,
        tie_word_embeddings=s.tied,
        max_position_embeddings=s.positions,
    )


def built(name):
    """The model itself, without memory for its weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config_of(name))


@pytest.mark.parametrize("name", list(PRESETS))
def test_parameters_are_those_of_the_model_that_is_built(name):
    model = built(name)
    assert parameters(preset(name)) == sum(p.numel() for p in model.parameters())


# as published with the models
PUBLISHED = {"smollm2": 134515008, "0.5b": 494032768, "1.5b": 1543714304, "7b": 7615616512, "70b": 70553706496}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_parameters_are_those_that_were_published(name):
    assert parameters(preset(name)) == PUBLISHED[name]


def test_parameters_by_hand():
    assert parameters(SMALL) == 2 * 496 + 800 + 8
    assert kv_bytes(SMALL) == 2 * 2 * 1 * 4 * 2
    assert body_flops(SMALL) == 2 * 2 * (192 + 288) and head_flops(SMALL) == 1600
    assert attention_flops(SMALL, 10) == 4 * 2 * 8 * 10


@pytest.mark.parametrize("name", ["tiny", "smollm2", "0.5b"])
def test_adapters_are_as_many_as_peft_adds(name):
    from workbench.train.lora import Lora, add_lora

    with torch.device("meta"):
        model = add_lora(built(name), Lora(rank=4))
    assert lora_parameters(preset(name), 4) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["tiny", "0.5b", "70b"])
def test_the_shape_of_a_configuration(name):
    found, want = of_config(config_of(name), name), preset(name)
    assert {**found.__dict__, "source": ""} == {**want.__dict__, "source": ""}


def test_the_shape_of_a_folder_needs_its_configuration_alone(tmp_path):
    config_of("1.5b").save_pretrained(tmp_path)
    assert parameters(of_folder(tmp_path)) == parameters(preset("1.5b"))


def test_other_kinds_of_models_are_refused():
    with pytest.raises(ValueError, match="mixture of experts"):
        of_config({"model_type": "mixtral", "num_local_experts": 8})
    with pytest.raises(ValueError, match="lacks num_hidden_layers, hidden_size"):
        of_config({"model_type": "odd", "vocab_size": 3})
    with pytest.raises(ValueError, match="no shape is called '8b'; known: tiny"):
        preset("8b")


def saved_bytes(layers, dtype, rank):
    """What PyTorch keeps for the backward pass of a real model's layers, and of how many tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    s = Shape("x", layers, 64, 4, 2, 16, 160, 50)
    config = LlamaConfig(
        vocab_size=s.vocab,
        hidden_size=s.hidden,
        intermediate_size=s.intermediate,
        num_hidden_layers=layers,
        num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads,
    )
    model = LlamaForCausalLM(config).to(dtype)
    if rank:
        from workbench.train.lora import Lora, add_lora

        model = add_lora(model, Lora(rank=rank)).base_model.model
    model = model.model.train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=torch.zeros(1, 128, dtype=torch.long), use_cache=False)
    return s, sum(t.untyped_storage().nbytes() for where, t in kept.items() if where not in weights), 128


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_layer_keeps_as_much_as_pytorch_saves(dtype, rank):
    (shape, three, tokens), (_, one, _) = saved_bytes(3, dtype, rank), saved_bytes(1, dtype, rank)
    assert f.kept_activations(shape, dtype.itemsize, rank) * tokens == pytest.approx((three - one) / 2, rel=0.01)


def test_autocast_keeps_what_runs_along_the_layers_in_float32():
    kept = []
    for layers in (3, 1):
        with torch.autocast("cpu", torch.bfloat16):
            shape, size, tokens = saved_bytes(layers, torch.float32, 0)
        kept.append(size)
    copies = 2 * (body_flops(shape) / 2)  # 16-bit copies of the matrices of the one layer: counted as gathered weights
    assert f.kept_activations(shape, 2, autocast=True) * tokens == pytest.approx(
        (kept[0] - kept[1]) / 2 - copies, rel=0.01
    )


def test_memory_of_a_learner_by_hand():
    how = Training(learners=1, weight_bytes=4, compute_bytes=4, checkpointing=False, micro_tokens=10, masked=False)
    found, n = f.learner_memory(SMALL, how), 1800
    assert (found.weights, found.gradients, found.optimiser, found.gathered) == (4 * n, 4 * n, 8 * n, 0)
    layer = 2 * (4 + 8) * 8 + 8 + 8 * 3 * 4 + 4 * 2 + 16 * 12
    assert found.activations == 10 * 2 * layer and found.logits == 100 * 10 * 16
    assert found.total == pytest.approx(1.1 * (16 * n + 10 * 2 * layer + 16000))


def test_two_learners_hold_half_each_and_gather_layers():
    one, two = (f.learner_memory(preset("7b"), Training(learners=k)) for k in (1, 2))
    assert two.weights == one.weights / 2 and two.optimiser == one.optimiser / 2
    layer, ends = 233057792, 2 * 152064 * 3584
    assert two.gathered == 2 * (3 * layer + ends)


def test_full_training_of_7b_in_float32_takes_16_bytes_a_parameter():
    found = f.learner_memory(preset("7b"), Training())
    assert found.weights + found.gradients + found.optimiser == 16 * 7615616512  # 113 GiB: no 80 GB GPU holds it
    adapters = f.learner_memory(preset("7b"), Training(weight_bytes=2, lora_rank=16))
    assert adapters.total < 40 * f.GIB


def test_checkpointing_and_shorter_passes_need_less():
    shape = preset("1.5b")
    plain, checked = (f.activation_bytes(shape, Training(checkpointing=c, masked=False)) for c in (False, True))
    assert checked < plain / 8
    assert f.activation_bytes(shape, Training(micro_tokens=4096, masked=False)) == checked / 2


def test_memory_of_an_engine_by_hand():
    shape = preset("7b")
    found = f.engine_memory(shape, 2, 4096, 10)
    assert found.weights == 7615616512 and found.cache == 57344 / 2 * 4096 * 10
    room = 0.9 * 80e9 - 2 * 7615616512 - 2 * f.GIB
    assert f.sequences_that_fit(shape, 1, 4096, 80e9) == int(room // (57344 * 4096))
    assert f.sequences_that_fit(preset("70b"), 1, 4096, 80e9) == 0


def test_more_devices_than_heads_of_keys_hold_no_less_each():
    assert f.cache_bytes(preset("7b"), 8) == f.cache_bytes(preset("7b"), 4) == 57344 / 4


def test_memory_says_its_parts():
    assert str(f.Memory(weights=2**30, cache=2**29)) == "1.50 GiB (weights 1.00, cache 0.50)"
