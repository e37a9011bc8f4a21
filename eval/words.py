"""The evaluation wing's words, Korean and English: data in eval/locales. Light, since command and page read them."""

from functools import partial
from pathlib import Path

from playground.page import form
from playground.page.words import Texts

LOCALES = Path(__file__).with_name("locales")
texts = Texts(LOCALES)
both, tooltip, card, fault, words = texts.both, texts.tooltip, texts.card, texts.fault, texts.words
form_error = partial(form.FormError, texts)
problem = partial(form.problem, texts, "evaluate.problem")
