"""Ollama is told the format that a model's own template renders, and nothing where that is none it knows."""

import json
import operator
import re
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue.adapters import folder_template
from playground.messages import Message
from playground.prompts import PromptFormat, format_names, prompt_format, render
from training.export import modelfile
from training.export.modelfile import Chat

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Qwen.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + (s if loop.first else '') + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
ODD = "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}{% endfor %}<assistant>"


def chat(template: str, bos: str = "<s>", eos: str = "</s>") -> Chat:
    return Chat(PromptFormat(template=template), bos, eos, (eos,))


@pytest.mark.parametrize(
    ("template", "format_", "system"),
    [
        (LLAMA3, "llama3", ""),
        (QWEN, "chatml", "You are Qwen."),
        (GEMMA, "gemma", ""),
        (MISTRAL, "mistral", ""),
        (MISTRAL.replace("'[/INST]'", "' [/INST]'"), "mistral-spaced", ""),
        (PHI3, "phi3", ""),
        (prompt_format("alpaca").template, "alpaca", ""),
        (prompt_format("koalpaca").template, "koalpaca", ""),
        (prompt_format("chatml").template, "chatml", ""),
    ],
)
def test_known_formats_are_recognised_by_what_they_render(template: str, format_: str, system: str) -> None:
    known, own = modelfile._recognised(chat(template))
    assert known == modelfile._known()[format_]
    assert own == system
    text = modelfile.text("m.gguf", chat(template))
    assert f'TEMPLATE """{known.go.replace("{eos}", "</s>")}"""' in text
    assert ("SYSTEM" in text) is bool(system)


@pytest.mark.parametrize(
    "template", [ODD, LLAMA3.replace("'<|eot_id|>'", "'<|eot|>'"), prompt_format("plain").template]
)
def test_an_unknown_template_is_left_to_ollama_and_the_file_says_so(template: str) -> None:
    first, second, *rest = modelfile.text("m.gguf", chat(template)).splitlines()
    assert "Ollama guesses one" in first
    assert second.startswith("# ")
    assert rest[0] == "FROM ./m.gguf"
    assert not any(line.startswith("TEMPLATE") for line in rest)


CONVERSATIONS = {
    "one": [("user", "안녕?")],
    "system": [("system", "Be brief."), ("user", "안녕?")],
    "turns": [("system", "Be brief."), ("user", "A"), ("assistant", "B"), ("user", "C")],
    "input": [("user", "옮겨\n\n### Input:\n마당"), ("assistant", "yard"), ("user", "C")],
    "later input": [("user", "A"), ("assistant", "B"), ("user", "옮겨\n\n### Input:\n마당")],
    "no input": [("user", "What does ### Input: mean in\n### Input:\n마당?")],
}


@pytest.mark.parametrize("turns", CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("name", list(modelfile._known()))
def test_the_go_templates_say_what_the_jinja_says(name: str, turns: list[tuple[str, str]]) -> None:
    known = modelfile._known()[name]
    messages = [Message(role=role, content=content) for role, content in turns]  # type: ignore[arg-type]
    assert Go(known.go.replace("{eos}", "</s>")).render(turns) == render(
        known.template, messages, {"eos_token": "</s>"}
    )


def test_every_named_format_with_turns_is_known() -> None:
    assert set(format_names()) - set(modelfile._known()) == {"plain"}


def test_the_balanced_preset_and_every_end(tmp_path: Path) -> None:
    """From files, as the field writes them: rows for tokens, several ends."""
    rows: dict[str, Any] = {
        "tokenizer_config.json": {"bos_token": None, "eos_token": {"content": "<|eot_id|>"}, "chat_template": LLAMA3},
        "special_tokens_map.json": {"bos_token": {"content": "<|begin_of_text|>"}},
        "tokenizer.json": {"added_tokens": [{"id": 7, "content": "<|end_of_text|>"}, {"id": 8, "content": '<"\n>'}]},
        "generation_config.json": {"eos_token_id": [7, 8, 9]},
    }
    for name, row in rows.items():
        (tmp_path / name).write_text(json.dumps(row))
    read = Chat.read(tmp_path, tmp_path, folder_template(tmp_path), None)
    assert (read.bos, read.eos) == ("<|begin_of_text|>", "<|eot_id|>")
    text = modelfile.text("m.gguf", read)
    for line in (
        "PARAMETER temperature 0.5",
        "PARAMETER top_p 0.9",
        "PARAMETER repeat_penalty 1.1",
        "PARAMETER repeat_last_n -1",
        'PARAMETER stop "<|eot_id|>"',
        'PARAMETER stop "<|end_of_text|>"',
        'PARAMETER stop "<\\"\\n>"',
    ):
        assert line in text.splitlines()
    assert text.count('stop "<|eot_id|>"') == 1


def test_a_named_format_wins_over_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(QWEN)
    read = Chat.read(tmp_path, tmp_path, folder_template(tmp_path), "koalpaca")
    assert "### 질문: {{ .Content }}" in modelfile.text("m.gguf", read)
    assert 'PARAMETER stop "### 맥락:"' in modelfile.text("m.gguf", read)
    assert "<|im_start|>" in modelfile.text("m.gguf", Chat.read(tmp_path, tmp_path, folder_template(tmp_path), None))


def test_a_model_without_a_template_gets_none(tmp_path: Path) -> None:
    assert "TEMPLATE" not in modelfile.text("m.gguf", Chat.read(tmp_path, tmp_path, folder_template(tmp_path), None))


class Go:
    """As much of Go's text/template as ollama.toml uses: define and template, range over .Messages, if, variables."""

    def __init__(self, text: str) -> None:
        self._parts = re.split(r"(\{\{-?.*?\}\})", text, flags=re.DOTALL)

    def render(self, turns: list[tuple[str, str]]) -> str:
        self._scope: dict[str, Any] = {".System": next((said for role, said in turns if role == "system"), "")}
        self._named: dict[str, int] = {}
        self._turns, self._at = turns, 1
        assert self._parts[0].strip() == ""  # {{- trims what stands before it
        out, _ = self._block(True)
        return out

    def _block(self, live: bool) -> tuple[str, str]:
        out = ""
        while self._at < len(self._parts):
            part = self._parts[self._at]
            self._at += 1
            if not part.startswith("{{"):
                out += part if live else ""
                continue
            out = out.rstrip() if part.startswith("{{-") else out
            action = part.strip("{}").removeprefix("-").strip(" ")
            if action == "end" or action.startswith("else"):
                return out, action
            out += self._action(action, live)
        return out, "end"

    def _action(self, action: str, live: bool) -> str:
        word, _, rest = action.partition(" ")
        if word == "define":
            self._named[rest] = self._at
            self._block(False)
            return ""
        if word == "template":
            return self._template(*rest.split(" ", 1)) if live else ""
        if action == "range .Messages":
            return self._range(live)
        if word == "if":
            return self._if(rest, live)
        if "=" in action:
            name, value = re.split(r"\s*:?=\s*", action)
            if live:
                self._scope[name] = self._value(value)
            return ""
        return str(self._value(action)) if live else ""

    def _template(self, name: str, given: str) -> str:
        back, scope = self._at, self._scope
        self._at, self._scope = self._named[name], {".": self._value(given)}
        out, _ = self._block(True)
        self._at, self._scope = back, scope
        return out

    def _range(self, live: bool) -> str:
        begin, out = self._at, ""
        for role, content in self._turns:
            self._at = begin
            self._scope |= {".Role": role, ".Content": content}
            out += self._block(live)[0]
        return out

    def _if(self, condition: str, live: bool) -> str:
        out, taken = "", False
        end = f"else if {condition}"
        while end != "end":
            test = end.removeprefix("else").strip(" ").removeprefix("if ").strip(" ")
            chosen = live and not taken and (not test or bool(self._value(test)))
            taken = taken or chosen
            text, end = self._block(chosen)
            out += text
        return out

    def _value(self, text: str) -> Any:
        words = re.findall(r'"[^"]*"|`[^`]*`|[()]|[^\s()]+', text)
        return self._called(words)

    def _called(self, words: list[str]) -> Any:
        found = []
        while words and (word := words.pop(0)) != ")":
            found.append(self._called(words) if word == "(" else word if word in CALLS else self._one(word))
        if len(found) == 1:
            return found[0]
        return CALLS[found[0]](*found[1:])

    def _one(self, word: str) -> Any:
        if word[0] in '"`':
            return word[1:-1]
        return int(word) if word.isdigit() else {"true": True, "false": False}.get(word, self._scope.get(word))


def _cut(text: str, begin: int, end: int | None = None) -> str:
    return text.encode(errors="surrogateescape")[begin:end].decode(errors="surrogateescape")


CALLS: dict[str, Any] = {
    "eq": operator.eq,
    "lt": operator.lt,
    "len": lambda text: len(text.encode(errors="surrogateescape")),
    "slice": _cut,
}
"""Go's functions; it counts and cuts texts by bytes."""
