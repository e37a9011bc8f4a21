"""What a name may be, in a catalogue and in a recipe, and how a wrong one is refused."""

import pytest
from pydantic import TypeAdapter, ValidationError

from playground.catalogue.names import Name, PromptFormat
from playground.prompts import format_names


@pytest.mark.parametrize("name", ["a", "smollm2:demo", "owner/name-0.5B+x", "한국어"])
def test_readable_names_stay_as_they_are(name: str) -> None:
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "-v", "a b", ".hidden", "a;b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="a name begins with a letter or digit"):
        TypeAdapter(Name).validate_python(name)


def test_a_prompt_format_is_one_of_ours_or_none() -> None:
    kind: TypeAdapter[str | None] = TypeAdapter(PromptFormat)
    assert [kind.validate_python(name) for name in (*format_names(), None)] == [*format_names(), None]
    with pytest.raises(ValidationError, match="known prompt formats: alpaca"):
        kind.validate_python("alpacca")
