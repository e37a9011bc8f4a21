"""How servers of this API name the sampler's fields, and which must be sent even what is switched off.

Temperature, top_p, max_tokens, seed, stop and two penalties are everybody's. The rest are extensions: a server that
says what it is gets all of them, since its own defaults (llama-server: top_k 40, min_p 0.05) are not neutral; any other
gets those that change something, and may refuse them. What is refused although it changes nothing is left out.
"""

from typing import Any, Literal, NamedTuple

from playground.errors import VariantError
from playground.presets import Sampling
from playground.protocol import RowRequest
from playground.thinking.habits import USUAL
from playground.wording import worded

EXTENSIONS = ("top_k", "min_p", "repetition_penalty")
NEUTRAL: dict[str, float] = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "top_p": 1.0, "temperature": 1.0}
THINKING = ("chat_template_kwargs", "reasoning_effort", "thinking_budget")
OTHERS = (*THINKING, "seed", "presence_penalty", "frequency_penalty", "top_p", "temperature", "stop")
"""Fields that a server may complain of, beside EXTENSIONS."""
ORDER = ["penalties", "temperature", "top_k", "top_p", "min_p"]


class Dialect(NamedTuple):
    """One family of servers: names that differ, whether all fields are sent, how tokens and scores are asked for."""

    always: bool = False
    names: dict[str, str] = {}
    more: dict[str, Any] = {}
    history: str = ""
    """How many tokens the penalties see: here all of them, as in our own engines."""
    no_top_k: int = 0
    forced: bool = False
    """Scores come token by token, since `echo` is not known there."""
    tokenizer_page: str = "/tokenizer_info"
    is_llama: bool = False
    """Whether /tokenize is asked as llama-server is, not as vLLM is."""
    has_templates: bool = False
    """Whether it renders a chat template, which may be given variables, and takes thoughts back."""
    goes_on: Literal["", "asked", "always"] = ""
    """Whether it goes on with an answer that stands last: where it is asked to, or always; empty: not known to."""
    budget: str = ""
    """Its field for the most tokens of a thought."""

    def tokenize(self, text: str, add_special: bool) -> dict[str, Any]:
        """Return the body for /tokenize."""
        if self.is_llama:
            return {"content": text, "add_special": add_special, "parse_special": True}
        return {"prompt": text, "add_special_tokens": add_special}


PLAIN = Dialect()
DIALECTS = {
    "vllm": Dialect(always=True, has_templates=True, goes_on="asked"),
    "sglang": Dialect(always=True, no_top_k=-1, has_templates=True, goes_on="asked"),
    "madang": Dialect(always=True, is_llama=True, has_templates=True, goes_on="asked", budget="thinking_budget"),
    "llamacpp": Dialect(
        always=True,
        names={"repetition_penalty": "repeat_penalty"},
        history="repeat_last_n",
        more={"samplers": ORDER},
        forced=True,
        tokenizer_page="/props",
        is_llama=True,
        has_templates=True,
        goes_on="always",
    ),
}
"""By `owned_by` in /v1/models."""


def of(owner: str) -> Dialect:
    """Return the dialect of a server by the `owned_by` of its models."""
    return DIALECTS.get(owner.lower(), PLAIN)


def fields(dialect: Dialect, sampling: Sampling, context: int) -> dict[str, Any]:
    """Return the body's fields for a sampling; standard ones are left out only where the API takes that as neutral."""
    body: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    for name in ("presence_penalty", "frequency_penalty"):
        if value := getattr(sampling, name):
            body[name] = value
    for name in EXTENSIONS:
        value = getattr(sampling, name)
        if dialect.always or value != NEUTRAL[name]:
            body[dialect.names.get(name, name)] = dialect.no_top_k if name == "top_k" and not value else value
    return body | dialect.more | ({dialect.history: context} if dialect.history else {})


def thinking(dialect: Dialect, request: RowRequest) -> dict[str, Any]:
    """Return the body's fields for how to think: variables of a template where there is one, else OpenAI's field.

    Raises VariantError for a budget that the server takes in no field known here.
    """
    wanted, given = request.thinking, dict(request.template_options)
    body: dict[str, Any] = {}
    if wanted.effort is not None:
        body["reasoning_effort"] = wanted.effort
    elif wanted.mode != "default" and dialect.has_templates:
        given = dict.fromkeys(USUAL, wanted.mode == "on") | given
    elif wanted.mode != "default":
        body["reasoning_effort"] = "medium" if wanted.mode == "on" else "none"
    if wanted.budget is not None and not dialect.budget:
        raise VariantError(
            worded("dialect.server_takes_no", variant=request.variant),
        )
    body |= {dialect.budget: wanted.budget} if wanted.budget is not None else {}
    return body | ({"chat_template_kwargs": given} if given else {})


def ending(dialect: Dialect, request: RowRequest) -> dict[str, Any]:
    """Return the body's fields for what the answer begins with; VariantError where the server may not know them."""
    if request.opened and not request.continues:
        return {}
    if dialect.goes_on == "asked":
        return {"continue_final_message": request.continues, "add_generation_prompt": False}
    if dialect.goes_on == "always" and request.continues:
        return {}
    raise VariantError(
        worded("dialect.server_not_known", variant=request.variant),
    )


def turns(dialect: Dialect, request: RowRequest) -> list[dict[str, Any]]:
    """Return the messages. Thoughts go back to servers that render a template, which decides; others have no field."""
    left_out = set() if dialect.has_templates else {"reasoning_content"}
    return [message.model_dump(exclude_none=True, exclude=left_out) for message in request.messages]


def refused(body: dict[str, Any], said: str) -> str | None:
    """Return the field that a server's message complains of, by its name in the catalogue and on the page."""
    for name in (*EXTENSIONS, *OTHERS):
        sent = [other for other in (name, "repeat_penalty") if other in body] if name in EXTENSIONS[2:] else [name]
        if any(other in body and other in said for other in sent):
            return name
    return None


def is_idle(dialect: Dialect, field: str, value: object) -> bool:
    """Return whether a field of the body changes nothing at this value."""
    name = next((ours for ours, theirs in dialect.names.items() if theirs == field), field)
    return name in NEUTRAL and value in (NEUTRAL[name], dialect.no_top_k if name == "top_k" else NEUTRAL[name])
