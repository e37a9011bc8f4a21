"""Model ids from catalogues: name, name:adapter, name:adapter:LEVEL, and never two variants under one."""

import pytest

from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf
from playground.server.served_models import Names
from playground.server.wire.errors import ApiError

BASE = Base(name="llama", source="owner/llama")


def ids(*variants: Base | Adapter | Gguf) -> list[str]:
    return Names(Catalogue([BASE, *variants])).ids


@pytest.mark.parametrize(
    ("variant", "model_id"),
    [
        (Adapter(name="llama:mine", source="o/x", base="llama"), "llama:mine"),
        (Adapter(name="mine", source="o/x", base="llama"), "llama:mine"),
        (Gguf(name="llama:Q8_0", source="o/x", base="llama"), "llama:Q8_0"),
        (Gguf(name="small", source="/m/Llama-7B-Instruct-Q4_K_M.gguf", base="llama"), "llama:Q4_K_M"),
        (Gguf(name="large", source="o/gguf", file="q/L-Q8_0-00001-of-00003.gguf", base="llama"), "llama:Q8_0"),
        (Gguf(name="small", source="o/x", file="sub/llama.iq4_xs.gguf", base="llama"), "llama:IQ4_XS"),
        (Gguf(name="small-f16", source="o/x", base="llama"), "llama:F16"),
        (Gguf(name="small", source="o/x", base="llama"), "llama:small"),
        (Gguf(name="small-Q4_0", source="o/x"), "small-Q4_0"),
    ],
)
def test_an_id_tells_what_a_variant_is_made_from(variant: Adapter | Gguf, model_id: str) -> None:
    assert ids(variant) == ["llama", model_id]


def test_a_build_of_an_adapter_has_three_parts() -> None:
    adapter = Adapter(name="mine", source="o/x", base="llama")
    build = Gguf(name="mine-build", source="/m/x-Q4_K_M.gguf", base="mine")
    names = Names(Catalogue([BASE, adapter, build]))
    assert names.ids == ["llama", "llama:mine", "llama:mine:Q4_K_M"]
    assert names.find("llama:mine:Q4_K_M") == names.find("mine-build") == ("llama:mine:Q4_K_M", build)
    assert names.find("mine") == ("llama:mine", adapter)


def test_an_id_that_is_anothers_is_not_taken() -> None:
    first = Gguf(name="one", source="/m/x-Q8_0.gguf", base="llama")
    second = Gguf(name="two", source="/m/y-Q8_0.gguf", base="llama")
    assert ids(first, second) == ["llama", "llama:Q8_0", "two"]
    named = Gguf(name="llama:Q8_0", source="/m/z.gguf")
    names = Names(Catalogue([BASE, first, named]))
    assert names.ids == ["llama", "one", "llama:Q8_0"]
    assert names.find("llama:Q8_0") == ("llama:Q8_0", named)


def test_a_near_match_may_be_an_id_or_a_catalogue_name() -> None:
    names = Names(Catalogue([BASE, Adapter(name="tuned", source="o/x", base="llama")]))
    with pytest.raises(ApiError, match="The model 'tuned2' does not exist. Did you mean tuned"):
        names.find("tuned2")
    with pytest.raises(ApiError) as caught:
        names.find("x" * 5000)
    assert len(caught.value.problem.message) < 400
    assert caught.value.status == 404
