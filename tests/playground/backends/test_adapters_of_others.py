"""Adapters whose names, vocabulary or tokenizer are not the base's own: served as PEFT does, or refused for it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM, AutoTokenizer

from playground.backends.prompting import prompt_of
from playground.backends.scheduler import Scheduler
from playground.backends.transformers import TransformersBackend
from playground.errors import VariantError
from playground.events import Started
from playground.protocol import RowRequest
from tests.playground.backends.conftest import randomised
from tests.playground.backends.test_adapter_kinds import ATTENTION, IDS, check, check_values, saved
from tests.playground.backends.test_multimodal import that_sees
from tests.playground.backends.test_transformers import kept, load, run

NEW = ["<|begin|>", "<|finish|>", "<|aside|>"]
TAGS = "{% for m in messages %}<|begin|>{{ m.role }}:{{ m.content }}<|finish|>{% endfor %}"
TAGS += "{% if add_generation_prompt %}<|begin|>assistant:{% endif %}"


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    """Write the adapter's tensors anew."""
    file = folder / "adapter_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}, file)
    return folder


def configured(folder: Path, **options: Any) -> Path:
    """Write options into the adapter's config."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | options))
    return folder


def refusal(backend: TransformersBackend, folder: Path) -> VariantError:
    with pytest.raises(VariantError) as caught:
        backend.tokenizer(str(folder))
    return caught.value


MIXTURES: dict[str, dict[str, Any]] = {
    "attention alone": {},
    "experts as parameters": {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
    "half of the experts' parameters": {"target_parameters": ["mlp.experts.down_proj"], "target_modules": []},
    "router of its own": {"modules_to_save": ["gate"]},
}


@pytest.mark.parametrize("base", ["qwen3_moe", "mixtral"])
@pytest.mark.parametrize("kind", MIXTURES)
def test_mixtures(kind: str, base: str, tiny: Callable[[str], Path], ask: Any, tmp_path: Path) -> None:
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    folder = saved(tiny(base), peft.LoraConfig(**(options | MIXTURES[kind])), tmp_path / "a")
    check(load(tiny(base)), tiny(base), folder, ask)


@pytest.mark.parametrize(("base", "layers"), [("qwen2_moe", r".*shared_expert\..*_proj"), ("opt", ["fc1", "fc2"])])
def test_layers_that_get_the_tokens_of_all_rows_in_one_list(
    base: str, layers: Any, tiny: Callable[[str], Path], ask: Any, tmp_path: Path
) -> None:
    """They have no axis of rows: the prompt of an adapter, and its rows among others, still go through it whole."""
    backend = load(tiny(base))
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=layers, r=4, lora_alpha=32)
    folders = [saved(tiny(base), config, tmp_path / name) for name in ("a", "b")]
    rewritten(folders[1], lambda tensors: {name: t if "lora_A" in name else -t for name, t in tensors.items()})
    check(backend, tiny(base), folders[0], ask)
    requests = [ask(text, folder, temperature=0.0) for text in ("안녕?", "hi hello") for folder in (None, *folders)]
    alone = [run(backend, [request])[0] for request in requests]
    assert len({tuple(answer) for answer in alone}) > 3
    assert run(backend, requests) == alone


@pytest.mark.parametrize(
    ("base", "path", "experts"),
    [
        (
            "qwen3_moe",
            "model.layers.{}.mlp.experts.{}",
            {"gate_proj": (48, 64), "up_proj": (48, 64), "down_proj": (64, 48)},
        ),
        ("mixtral", "model.layers.{}.block_sparse_moe.experts.{}", {"w1": (96, 64), "w3": (96, 64), "w2": (64, 96)}),
    ],
)
def test_experts_as_transformers_4_named_them(
    base: str, path: str, experts: dict[str, tuple[int, int]], tiny: Callable[[str], Path], ask: Any, tmp_path: Path
) -> None:
    """Each expert had linear layers of its own; they are slices of one parameter now."""
    torch.manual_seed(2)
    tensors = {}
    for layer in range(3):
        for expert in range(4):
            for name, (out, width) in experts.items():
                place = f"base_model.model.{path.format(layer, expert)}.{name}"
                tensors[f"{place}.lora_A.weight"] = torch.randn(4, width) * 0.3
                tensors[f"{place}.lora_B.weight"] = torch.randn(out, 4) * 0.3
    peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=list(experts)).save_pretrained(tmp_path)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    check(load(tiny(base)), tiny(base), tmp_path, ask)


@pytest.mark.parametrize("old", [False, True])
def test_gemma_3_under_its_names_of_today_and_of_transformers_4_49(old: bool, tmp_path: Path) -> None:
    base, folder = that_sees("gemma3", tmp_path / "b"), tmp_path / "a"
    model = get_peft_model(
        AutoModelForMultimodalLM.from_pretrained(base, dtype=torch.float32),
        peft.LoraConfig(task_type="CAUSAL_LM", target_modules=r".*language_model.*(q_proj|v_proj|down_proj)"),
    )
    torch.manual_seed(1)
    trained = randomised(model).eval()
    trained.save_pretrained(folder)
    today, then = "model.language_model.layers", "language_model.model.layers"
    if old:
        rewritten(folder, lambda tensors: {name.replace(today, then): t for name, t in tensors.items()})
    assert any((then if old else today) in name for name in load_file(folder / "adapter_model.safetensors"))
    with torch.no_grad():
        expected = torch.log_softmax(trained(torch.tensor([IDS])).logits[0], dim=-1)
    got = torch.from_numpy(load(base).logprobs(IDS, str(folder)))
    assert (got - expected).abs().max() < 1e-3


def grown(base: Path, folder: Path, embeddings: bool = True, **options: Any) -> tuple[Path, Any]:
    """Write an adapter that was trained with three tokens more and a template in them, and return it as it was then."""
    words = AutoTokenizer.from_pretrained(base)
    words.add_special_tokens({"additional_special_tokens": NEW, "eos_token": NEW[1]})
    words.chat_template = TAGS
    torch.manual_seed(3)
    bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    bare.resize_token_embeddings(len(words), mean_resizing=False)
    fields = {"r": 4, "lora_alpha": 16, "target_modules": ATTENTION, "task_type": "CAUSAL_LM"} | options
    model = randomised(get_peft_model(bare, peft.LoraConfig(**fields)))
    model.save_pretrained(folder, save_embedding_layers=True if embeddings else "auto")
    words.save_pretrained(folder)
    return folder, model.eval()


VOCABULARIES: dict[str, dict[str, Any]] = {
    "saved whole": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "saved whole and tied": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "saved beside LoRA": {},
    "LoRA on them": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
}


@pytest.mark.parametrize("base", ["llama", "qwen3 tied", "gemma3_text tied"])
@pytest.mark.parametrize("kind", VOCABULARIES)
def test_a_vocabulary_that_grew(kind: str, base: str, tiny: Callable[[str], Path], ask: Any, tmp_path: Path) -> None:
    """The right answer is that of the model as it was trained: plain PEFT wants it resized by hand, and then agrees."""
    folder, trained = grown(tiny(base), tmp_path / "a", **VOCABULARIES[kind])
    backend = load(tiny(base))
    bare = backend.logprobs(IDS)
    tokenizer = backend.tokenizer(str(folder))
    assert [len(tokenizer.encode(token)) for token in NEW] == [1, 1, 1]
    request = ask("안녕?", folder, temperature=0.0, repetition_penalty=1.0)
    prompt = prompt_of(tokenizer, request)
    assert prompt.text == "<|begin|>user:안녕?<|finish|><|begin|>assistant:"
    with torch.no_grad():
        expected = torch.log_softmax(trained(torch.tensor([prompt.ids])).logits[0], dim=-1)
    got = torch.from_numpy(backend.logprobs(prompt.ids, str(folder)))
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < 1e-3
    assert tokenizer.is_end(tokenizer.encode("<|finish|>")[0])
    assert not backend.tokenizer().is_end(tokenizer.encode("<|finish|>")[0])
    both = run(backend, [request, ask("안녕?", temperature=0.0)])
    assert both == [run(backend, [request])[0], run(backend, [ask("안녕?", temperature=0.0)])[0]]
    assert (backend.logprobs(IDS) == bare).all()


def test_single_new_tokens(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    base = tiny("qwen3 tied")
    size = len(AutoTokenizer.from_pretrained(base))
    folder, trained = grown(base, tmp_path / "a", embeddings=False, trainable_token_indices=[size, size + 1, size + 2])
    rewritten(folder, lambda tensors: {name: t for name, t in tensors.items() if not name.endswith("tokens.weight")})
    backend = load(base)
    ids = [*IDS, size, size + 2, 9]
    with torch.no_grad():
        expected = torch.log_softmax(trained(torch.tensor([ids])).logits[0], dim=-1)
    assert (torch.from_numpy(backend.logprobs(ids, str(folder))) - expected).abs().max() < 1e-3


def test_new_tokens_without_their_rows_are_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder, _ = grown(tiny("llama"), tmp_path / "a")
    rewritten(folder, lambda tensors: {name: t for name, t in tensors.items() if "lora_" in name})
    error = refusal(load(tiny("llama")), folder)
    assert "has 292 tokens, and there are rows for 289: it brings none for the others" in error.message
    assert "save_embedding_layers=True" in error.hint


def test_a_token_that_only_fills_up_batches_needs_no_row(tiny: Callable[[str], Path], tmp_path: Path, ask: Any) -> None:
    """Trainers add one without training it; PEFT loads such adapters on the base as it is."""
    base, backend = tiny("llama"), load(tiny("llama"))
    folder = saved(base, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=ATTENTION), tmp_path / "a")
    words = AutoTokenizer.from_pretrained(base)
    words.add_special_tokens({"pad_token": "<|PAD_TOKEN|>"})
    words.save_pretrained(folder)
    check(backend, base, folder, ask)
    with pytest.raises(
        VariantError, match=r"holds <\|PAD_TOKEN\|>, a token of the tokenizer that the model has no row"
    ):
        backend.tokenizer(str(folder)).encode("a<|PAD_TOKEN|>")


def test_a_loaded_adapter_does_not_change_with_its_file(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """A training that saves into the same folder writes over what a worker may have mapped."""
    backend = load(tiny("llama"))
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=ATTENTION)
    file = saved(tiny("llama"), config, tmp_path / "a") / "adapter_model.safetensors"
    backend.tokenizer(str(file.parent))
    [(down, up)] = backend._carriers.plain._layers["model.layers.0.self_attn.q_proj"].values()
    before = down.clone(), up.clone()
    with file.open("r+b") as weights:
        weights.write(bytes(file.stat().st_size))
    assert torch.equal(down, before[0])
    assert torch.equal(up, before[1])


def test_a_broken_tokenizer_of_its_own_is_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    base = tiny("llama")
    folder = saved(base, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=ATTENTION), tmp_path / "a")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{half")
    assert "cannot load the tokenizer of the adapter a" in refusal(load(base), folder).message


def test_a_template_and_a_tokenizer_of_its_own(
    tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path], ask: Any, tmp_path: Path
) -> None:
    """Base, an adapter with a template alone, and one with a whole tokenizer stand beside one another."""
    base = tiny("llama")
    plain = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    alone, whole = (Path(shutil.copytree(tiny_adapter(base), tmp_path / name)) for name in ("alone", "whole"))
    (alone / "chat_template.jinja").write_text(plain)
    words = AutoTokenizer.from_pretrained(base)
    words.eos_token, words.chat_template = "<|endoftext|>", plain.replace("[", "<").replace("]", ">")
    words.save_pretrained(whole)
    backend = load(base)
    asked = {"": ask("hi"), "alone": ask("hi", alone), "whole": ask("hi", whole)}
    texts = {name: prompt_of(backend.tokenizer(one.adapter), one).text for name, one in asked.items()}
    assert texts == {
        "": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
        "alone": "[user] hi\n",
        "whole": "<user> hi\n",
    }
    end = words.convert_tokens_to_ids("<|endoftext|>")
    assert [backend.tokenizer(one.adapter).is_end(end) for one in asked.values()] == [True, True, True]
    requests = [ask("hi", folder, seed=4) for folder in (None, alone, whole)]
    assert run(backend, requests) == [run(backend, [request])[0] for request in requests]


def test_the_base_is_blamed_only_where_it_is_another(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    base, config = tiny("llama"), {"task_type": "CAUSAL_LM", "target_modules": ATTENTION}
    folder = saved(base, peft.LoraConfig(**config, use_dora=True), tmp_path / "a")
    lacking = Path(shutil.copytree(folder, tmp_path / "lacking"))
    rewritten(lacking, lambda tensors: {name: t for name, t in tensors.items() if "layers.1" not in name})
    error = refusal(load(base), lacking)
    assert "its config targets layers of the base that its file has nothing for: model.layers.1" in error.message
    assert "another base" not in error.message + error.hint
    assert "trained on" not in error.hint
    more = configured(Path(shutil.copytree(folder, tmp_path / "more")), layers_to_transform=[0])
    assert "it holds model.layers.1.self_attn.q_proj" in refusal(load(base), more).message
    other = configured(Path(shutil.copytree(folder, tmp_path / "other")), base_model_name_or_path="owner/another")
    rewritten(other, lambda tensors: {name: t[..., :-1] if "lora_A" in name else t for name, t in tensors.items()})
    error = refusal(load(base), other)
    assert "the shape of model.layers.0.self_attn.q_proj" in error.message
    assert "Name the base it was trained on" in error.hint


def test_a_start_that_rewrites_the_base_leaves_it_to_the_others(
    tiny: Callable[[str], Path], ask: Callable[..., RowRequest], tmp_path: Path
) -> None:
    """PEFT takes PiSSA's part out of the base's own weights at loading, also of one that serves others."""
    base, backend = tiny("llama"), load(tiny("llama"))
    before = run(backend, [ask("hello", temperature=0.0)])
    options = {"task_type": "CAUSAL_LM", "target_modules": ATTENTION}
    pissa = saved(base, peft.LoraConfig(**options, init_lora_weights="pissa"), tmp_path / "p")
    plain = saved(base, peft.LoraConfig(**options), tmp_path / "l")
    check(backend, base, pissa, ask)
    check(backend, base, plain, ask)
    assert run(backend, [ask("hello", temperature=0.0)]) == before


def test_what_peft_cannot_load_here_is_refused_with_its_reason(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """LoftQ quantizes the base anew at loading, with a package that this machine may lack."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=ATTENTION)
    folder = saved(tiny("llama"), config, tmp_path / "a")
    configured(folder, init_lora_weights="loftq", loftq_config={"loftq_bits": 3, "loftq_iter": 1})
    error = refusal(load(tiny("llama")), folder)
    assert error.message.startswith("PEFT cannot load the adapter a on this base: ")
    assert "path_initial_model_for_weight_conversion" in error.hint
    configured(folder, init_lora_weights="a start of tomorrow")
    assert "a start of tomorrow" in refusal(load(tiny("llama")), folder).message


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_that_is_written_anew_is_read_anew(
    dora: bool, tiny: Callable[[str], Path], ask: Any, tmp_path: Path
) -> None:
    """A run that was repeated leaves its adapter in the same folder; a row under way ends as it began."""
    base, config = tiny("llama"), {"task_type": "CAUSAL_LM", "target_modules": ATTENTION, "use_dora": dora}
    folder = saved(base, peft.LoraConfig(**config), tmp_path / "a")
    backend = load(base)
    check(backend, base, folder, ask)
    first = run(backend, [ask("hello", folder, temperature=0.0)])
    told: list[Any] = []
    scheduler = Scheduler(backend, lambda row, event: told.append(event), lambda row: False)
    old, new = (ask("hello", folder, temperature=0.0) for _ in range(2))
    tokens = kept(backend)
    scheduler.add(old, 0.0)
    for _ in range(4):
        scheduler.step()
    rewritten(folder, lambda tensors: {name: t * 3 for name, t in tensors.items()})
    (folder / "chat_template.jinja").write_text("{% for m in messages %}({{ m.content }}){% endfor %}")
    scheduler.add(new, 0.0)
    while not scheduler.idle:
        scheduler.step()
    assert tokens[old.id] == first[0]
    assert [event.prompt for event in told if isinstance(event, Started)][1] == "(hello)"
    check_values(backend, base, folder)
    shutil.rmtree(folder)
    with pytest.raises(VariantError, match="is not a folder"):
        backend.tokenizer(str(folder))


def test_a_layer_of_another_width_is_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """Its outer sides are those of the layer the other way round, as GPT-2 stores them."""
    base = tiny("llama")
    folder = saved(base, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["k_proj"]), tmp_path / "a")
    swapped = {"lora_A": (4, 32), "lora_B": (64, 4)}
    rewritten(
        folder,
        lambda tensors: {name: torch.zeros(swapped[name.split(".")[-2]]) for name in tensors},
    )
    configured(folder, r=4)
    assert "the shape of model.layers.0.self_attn.k_proj" in refusal(load(base), folder).message


def test_only_what_differs_is_held_twice(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    base = tiny("llama")
    options = {"task_type": "CAUSAL_LM", "target_modules": ATTENTION}
    dora = saved(base, peft.LoraConfig(**options, use_dora=True), tmp_path / "d")
    pissa = saved(base, peft.LoraConfig(**options, init_lora_weights="pissa"), tmp_path / "p")
    backend = load(base)
    own = {tensor.data_ptr() for tensor in backend._model.parameters()}

    def held(folder: Path) -> set[str]:
        model = backend._carriers.of(str(folder)).model
        return {name for name, tensor in model.named_parameters() if tensor.data_ptr() not in own}

    assert all("lora_" in name for name in held(dora))
    assert {name.rpartition("base_layer")[0].rpartition("self_attn.")[2] for name in held(pissa) if "base" in name} == {
        f"{name}." for name in ATTENTION
    }


def test_plain_peft_agrees_about_what_is_loaded(tiny: Callable[[str], Path], tmp_path: Path, ask: Any) -> None:
    """Old PEFT files lack most options, and newer ones have some that are not known yet."""
    base = tiny("llama")
    folder = saved(base, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=ATTENTION, r=4), tmp_path / "a")
    file = folder / "adapter_config.json"
    few = ("peft_type", "task_type", "r", "lora_alpha", "target_modules", "lora_dropout", "bias", "fan_in_fan_out")
    old = {name: value for name, value in json.loads(file.read_text()).items() if name in few}
    file.write_text(json.dumps(old))
    check(load(base), base, folder, ask)
    configured(folder, an_option_of_tomorrow=True)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)
    assert model is not None
    check(load(base), base, folder, ask)
