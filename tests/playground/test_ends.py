"""The tokens that end an answer by their spelling, held against the llama.cpp in use."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playground.prompts import end_tokens

FIRST = ["<unk>", "<s>", "</>"]
"""What every vocabulary here begins with; llama.cpp takes the third for EOS, as SentencePiece has it."""
FILL = (
    *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>"),
    *("<REPO>", "<reponame>", "<|file_sep|>"),
)
"""Of these llama.cpp takes one of a kind, whichever its table has first."""
ENDS = (
    "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<eos>", "<turn|>", "<|tool_response>", "<|endoftext|>", "</s>", "<|end_of_text|>", "<EOT>",
    "_<EOT>", "[EOT]", "[EOS]", "<end_of_utterance>", "<｜end▁of▁sentence｜>", "[e~[",
)  # fmt: skip
NONE = (
    "<|im_start|>", "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|start_of_turn|>", "<start_of_turn>",
    "<|eot|>", "<|eom|>", "<|eos|>", "<|end_of_turn|>", "<|endofturn|>", "[|endofturn|]", "<|end_of_role|>", "<bos>",
    "<|turn>", "<tool_response>", "</tool_response>", "<EOS>", "[PAD", "<pad>", "<|pad|>", "<fim_prefix>",
    "<fim_middle>", "<fim_suffix>", "<|fim_prefix|>", "<file_sep>", "<filename>", "<|endofprompt|>", "<|startoftext|>",
    "[INST]", "[/INST]", "end", "</end>", "<end>", "eos", "<|END|>", "<|im_sep|>", "<｜begin▁of▁sentence｜>",
    "<|begin_of_text|>",
)  # fmt: skip

Asked = Callable[[Sequence[str]], set[str]]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Which tokens of a vocabulary llama.cpp counts as ends; asked of a file that holds nothing else."""
    import llama_cpp.llama_cpp as lib
    from gguf import GGUFWriter

    file = tmp_path_factory.mktemp("words") / "words.gguf"
    params = lib.llama_model_default_params()
    params.vocab_only = True

    def ask(words: Sequence[str]) -> set[str]:
        all_words = [*FIRST, *words]
        writer = GGUFWriter(file, "llama")
        writer.add_tokenizer_model("llama")
        writer.add_token_list(all_words)
        writer.add_token_scores([0.0] * len(all_words))
        writer.add_token_types([1] * len(all_words))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        model = lib.llama_model_load_from_file(os.fsencode(file), params)
        vocabulary = lib.llama_model_get_vocab(model)
        ends = {word for at, word in enumerate(all_words) if lib.llama_vocab_is_eog(vocabulary, at)}
        lib.llama_model_free(model)
        return ends - set(FIRST)

    return ask


@pytest.mark.parametrize("word", [*ENDS, *FILL])
def test_every_end_is_one_for_llama_cpp(word: str, llama: Asked) -> None:
    assert llama([word, *NONE]) == end_tokens({word, *NONE}) == {word}


@pytest.mark.parametrize("word", NONE)
def test_what_is_no_end_for_llama_cpp_is_none_here(word: str, llama: Asked) -> None:
    assert llama([word]) == end_tokens({word}) == set()


class Everything:
    """A vocabulary that has every word."""

    def __contains__(self, word: object) -> bool:
        return True


def test_this_file_knows_every_end() -> None:
    assert end_tokens(Everything()) == {*ENDS, *FILL} - {"<|end|>", "</s>"}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.sampled_from(ENDS)), st.sampled_from([(), *((word,) for word in FILL)]), st.sets(st.sampled_from(NONE))
)
def test_together_they_are_what_llama_cpp_makes_of_them(
    llama: Asked, ends: set[str], fill: tuple[str, ...], others: set[str]
) -> None:
    words = {*ends, *fill, *others}
    assert llama(sorted(words)) == end_tokens(words)


@pytest.mark.parametrize(
    "marker", ["<|return|> <|call|>", "<|return|> <|calls|>", "<|call|> <|flush|>", "<|calls|> <|flush|>"]
)
def test_the_end_of_a_message_is_no_end_beside_those_of_answers(marker: str, llama: Asked) -> None:
    words = {*marker.split(), "<|end|>"}
    assert llama(sorted(words)) == end_tokens(words) == set(marker.split())


@pytest.mark.parametrize("marker", ["<|return|> <|flush|>", "<|return|>", "<|call|> <|calls|>"])
def test_half_of_those_change_nothing(marker: str, llama: Asked) -> None:
    words = {*marker.split(), "<|end|>"}
    assert llama(sorted(words)) == end_tokens(words) == words


def test_a_template_is_asked_by_its_text() -> None:
    assert end_tokens("{{ m.content }}<|im_end|>\n") == {"<|im_end|>"}
    assert end_tokens("{{ m.content }}{{ eos_token }}") == set()


def test_both_engines_end_at_the_same_tokens(demo_models: Path, demo_f16: Path) -> None:
    from playground.backends.llama_cpp import LlamaCppBackend
    from playground.backends.transformers import TransformersBackend
    from playground.protocol import ModelSpec

    base = TransformersBackend(ModelSpec(engine="transformers", name="b", path=str(demo_models / "smollm2")))
    gguf = LlamaCppBackend(ModelSpec(engine="llama_cpp", name="g", path=str(demo_f16), gpu_layers=0, context=64))
    ids = range(gguf.info.vocabulary)
    assert [token for token in ids if base.tokenizer().is_end(token)] == [
        token for token in ids if gguf.tokenizer().is_end(token)
    ]
    gguf.close()
