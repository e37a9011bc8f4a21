"""What clients send: OpenAI's fields, and the few that Madang adds. Unknown ones are refused, as OpenAI does.

Fields that OpenAI knows and Madang cannot serve are declared, so that they get an answer of their own; those that
change nothing here are taken and left alone.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from playground.server.wire.errors import ApiError
from playground.thinking.asked import Thinking

MAX_CHOICES = 128
MAX_PROMPTS = 2048
MAX_STOPS = 64
MAX_TOP = 20
MAX_FIELDS = 100
"""Fields of one object: no client has so many, and each unknown one would get a sentence."""
MAX_UNKNOWN = 200
"""Characters of unknown names in one object that an answer repeats."""
TEMPLATE_OWN = frozenset({"messages", "add_generation_prompt", "bos_token", "eos_token", "tools", "documents"})
"""Variables of a chat template that a client does not set by name."""
MAX_MODEL = 1000
"""Characters of a model's name: longer than any, and cheap to look for."""
MAX_INT = 2**31 - 1
"""More than any count or token id: integers may have thousands of digits, and answers repeat them."""
DEFAULT_COMPLETION = 16
"""Tokens of a completion for which none are asked: OpenAI's own default."""
Id = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]
Ids = Annotated[list[Id], Field(fail_fast=True)]
"""Validation of a list stops at its first fault: megabytes of wrong items would hold up everyone else's requests."""


def _unicode(text: str) -> str:
    """Refuse a text that UTF-8 cannot hold: JSON's escapes can spell half a character, which engines choke on."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a character, which is no Unicode") from None
    return text


def _variables(given: dict[str, Any]) -> dict[str, Any]:
    """Refuse variables of a template that hold such a text, or that the request itself sets."""
    if taken := TEMPLATE_OWN & given.keys():
        raise ValueError(f"'{min(taken)}' is set by the request itself")
    _unicode(json.dumps(given, ensure_ascii=False))
    return given


Text = Annotated[str, AfterValidator(_unicode)]
Variables = Annotated[dict[str, Any], AfterValidator(_variables)]
Stop = Annotated[Text, Field(max_length=1000)]
Model = Annotated[Text, Field(max_length=MAX_MODEL)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > MAX_FIELDS:
            text = f"An object of the request has {len(given)} fields, and {MAX_FIELDS} are the most."
            raise ApiError(400, text, code="invalid_value")
        return given

    @model_validator(mode="before")
    @classmethod
    def _named_shortly(cls, given: Any) -> Any:
        """Count unknown names that would make a long answer, in place of naming each."""
        unknown = [name for name in given if name not in cls.model_fields] if isinstance(given, dict) else []
        if sum(map(len, unknown)) > MAX_UNKNOWN:
            text = f"Unknown parameters: {len(unknown)}, the first of them '{unknown[0][:MAX_UNKNOWN]}'."
            raise ApiError(400, text, code="unknown_parameter")
        return given


class StreamOptions(_Asked):
    """What a stream has beside its text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Request(_Asked):
    """What both kinds of completion take. The fields of the last group are Madang's own."""

    model: Model = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    stop: Text | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Any] | None = None

    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    preset: str | None = Field(
        default=None, max_length=100, description="factual, balanced or creative: sets what is not sent itself"
    )
    top_k: int | None = Field(default=None, ge=-1, le=2**31 - 1, description="0 or -1: off")
    min_p: float | None = Field(default=None, ge=0, lt=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=3)

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings that are not empty."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in given if stop)

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def check(self) -> None:
        """Refuse what cannot be served, or does not go together."""
        if self.logit_bias:
            raise unsupported("logit_bias")
        if self.stream_options is not None and not self.stream:
            text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise ApiError(400, text, "stream_options", "invalid_value")


class Part(BaseModel):
    """A part of a message's content; only text can be read here."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: str
    text: Text | None = None


class ChatTurn(_Asked):
    """One message. `name` and `annotations` change nothing; the calls of tools cannot be served.

    An assistant's thought goes back to the template, if that wants it; vLLM's name for it is `reasoning`.
    """

    role: str
    content: Text | Annotated[list[Part], Field(fail_fast=True)] | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: Any = None
    audio: Any = None
    tool_calls: Any = None
    tool_call_id: Any = None
    function_call: Any = None


class ChatRequest(_Request):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[ChatTurn], Field(fail_fast=True, min_length=1)]
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_INT)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_INT)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None

    continue_final_message: bool | None = Field(
        default=None, description="whether the last message, the assistant's, is the beginning of the answer"
    )
    add_generation_prompt: bool | None = Field(
        default=None, description="whether the template begins an answer behind the messages; false: it does not"
    )
    chat_template_kwargs: Variables | None = Field(
        default=None, description="variables for the model's chat template, such as enable_thinking"
    )
    parse_special: bool | None = Field(
        default=None, description="whether control tokens that a message types are read as such, not as text"
    )
    thinking_budget: int | None = Field(
        default=None, ge=0, le=MAX_INT, description="tokens after which a thought is closed"
    )

    response_format: Any = None
    modalities: Annotated[list[str], Field(fail_fast=True)] | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    verbosity: Any = None
    parallel_tool_calls: bool | None = None

    @property
    def thinking(self) -> Thinking:
        """How the answer is to be thought about; a model that cannot think is refused an effort other than none."""
        effort = self.reasoning_effort
        if effort == "none":
            return Thinking(mode="off", budget=self.thinking_budget)
        return Thinking(effort=effort, budget=self.thinking_budget, strict=effort is not None)

    @property
    def limit(self) -> int | None:
        """Tokens asked for at most."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    def check(self) -> None:
        """Refuse what cannot be served, or does not go together."""
        super().check()
        form = self.response_format
        plain = form is None or (isinstance(form, dict) and form.get("type") == "text")
        if not plain:
            raise unsupported("response_format", " beyond {'type': 'text'}")
        if self.modalities and self.modalities != ["text"]:
            raise unsupported("modalities", " beyond ['text']")
        if self.tool_choice not in (None, "none", "auto") or self.function_call not in (None, "none", "auto"):
            raise unsupported("tool_choice" if self.tool_choice not in (None, "none", "auto") else "function_call")
        for name in (
            "tools",
            "functions",
            "audio",
            "prediction",
            "web_search_options",
            "verbosity",
        ):
            if getattr(self, name):
                raise unsupported(name)
        if self.continue_final_message and self.add_generation_prompt:
            text = "'continue_final_message' and 'add_generation_prompt' cannot both be true."
            raise ApiError(400, text, "continue_final_message", "invalid_value")
        if self.continue_final_message and self.messages[-1].role != "assistant":
            text = "'continue_final_message' needs a last message of the role 'assistant'."
            raise ApiError(400, text, "continue_final_message", "invalid_value")
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(400, "'top_logprobs' needs 'logprobs' to be true.", "top_logprobs", "invalid_value")


class CompletionRequest(_Request):
    """The body of /v1/completions."""

    prompt: (
        Text
        | Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[Ids, Field(min_length=1)]
        | Annotated[
            list[Annotated[Ids, Field(min_length=1)]], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)
        ]
    )
    max_tokens: int | None = Field(default=None, ge=0, le=MAX_INT)
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP)
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None

    @property
    def prompts(self) -> list[str | Ids]:
        """Each prompt by itself."""
        given: Any = self.prompt
        one = isinstance(given, str) or isinstance(given[0], int)
        return [given] if one else list(given)

    @property
    def limit(self) -> int | None:
        """Tokens asked for at most; None where a preset says."""
        return DEFAULT_COMPLETION if self.max_tokens is None and self.preset is None else self.max_tokens

    def check(self) -> None:
        """Refuse what cannot be served, or does not go together."""
        super().check()
        if self.suffix:
            raise unsupported("suffix")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise unsupported("best_of", " other than 'n'")
        if len(self.prompts) * (self.n or 1) > MAX_PROMPTS:
            text = f"{len(self.prompts)} prompts with n = {self.n} are more than {MAX_PROMPTS} answers."
            raise ApiError(400, text, "n", "invalid_value")


class TokenizeRequest(_Asked):
    """The body of /tokenize, as llama.cpp's server has it; `model` may be left out where one model is loaded alone."""

    content: Text
    model: Model | None = None
    add_special: bool | None = None
    parse_special: Literal[True] | None = None
    with_pieces: bool | None = None


class DetokenizeRequest(_Asked):
    """The body of /detokenize, as llama.cpp's server has it."""

    tokens: Ids
    model: Model | None = None


def unsupported(name: str, what: str = "") -> ApiError:
    """Return the refusal of a field that OpenAI knows."""
    return ApiError(400, f"Unsupported parameter: '{name}'{what} is not served here.", name, "unsupported_parameter")
