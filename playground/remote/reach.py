"""Asks the servers of remote variants once, with a short timeout, whether they answer and what they serve."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from playground.errors import MadangError, WorkerError
from playground.protocol import ModelInfo, ModelSpec
from playground.remote.openai import Server
from playground.wording import worded

LOOK_S = 3.0


@dataclass(frozen=True)
class Found:
    """A variant's model as its server describes it; `model` is its name there."""

    model: str
    info: ModelInfo


def look(spec: ModelSpec) -> Found:
    """Ask a variant's server once what it serves; raises MadangError where it does not answer or refuses."""
    return asyncio.run(_look(spec))


def reached(specs: Sequence[ModelSpec]) -> dict[str, MadangError | None]:
    """Ask all servers at once; return, by the variants' names, None for each that answers and else its error."""

    async def one(spec: ModelSpec) -> MadangError | None:
        try:
            await _look(spec)
        except MadangError as error:
            return error
        return None

    async def every() -> list[MadangError | None]:
        return await asyncio.gather(*map(one, specs))

    return dict(zip((spec.name for spec in specs), asyncio.run(every()), strict=True)) if specs else {}


async def _look(spec: ModelSpec) -> Found:
    server = Server(spec, patient=False)
    try:
        async with asyncio.timeout(LOOK_S):
            info = await server.greet()
    except TimeoutError as error:
        raise WorkerError(
            worded("reach.not_answer_within", name=spec.name, host=server.line.host, look_s=LOOK_S)
        ) from error
    finally:
        await server.close()
    return Found(server.model, info)
