"""The training wing's words on the page, Korean and English: data in training/locales."""

from functools import partial
from pathlib import Path

from playground.page import form
from playground.page.words import Texts

LOCALES = Path(__file__).with_name("locales")
texts = Texts(LOCALES)
both, tooltip, card, words = texts.both, texts.tooltip, texts.card, texts.words
form_error = partial(form.FormError, texts)
problem = partial(form.problem, texts, "train.problem")
