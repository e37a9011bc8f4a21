"""100 visitors at a time who come to the page, ask, change its language and go, for ten minutes: no leak, no error."""

import asyncio
import json
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from benchmarks.common import ROOT, Measured, settings
from benchmarks.serving import VARIANT, Server, free_port, question, served

VISITORS = 100
MINUTE_S = 60.0
WHOLE_S = 10 * MINUTE_S
STAY_S = 40.0
"""How long a visitor reads before going; everybody by a few seconds longer than the one before."""
TOKENS = 16
CONFIG = re.compile(r"window\.gradio_config = (.*?);</script>", re.DOTALL)


@dataclass
class Seen:
    """What happened: visits to their end, faults by what they were, and the memory of server and workers over time."""

    visits: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, int]] = field(default_factory=list)


def run(times: int) -> list[Measured]:
    """Memory at the end over after the first minute, faults among the visits."""
    settings()
    port = free_port()
    command = [sys.executable, str(ROOT / "app.py"), "--no-open", "--port", str(port)]
    with served(command, port, VARIANT) as server:
        seen = asyncio.run(_soak(server))
    late = [float(size) / 2**20 for at, size in seen.memory if at > WHOLE_S - 10]
    early = [float(size) / 2**20 for at, size in seen.memory if MINUTE_S <= at < MINUTE_S + 10]
    for fault, count in seen.faults.items():
        print(f"{count} x {fault}")
    return [
        Measured("100 visitors: faults / visits", [float(seen.faults.total())], [float(seen.visits)], "0", "visits"),
        Measured("100 visitors: memory at the end / after a minute", late, early, "<= 1.05", "MiB"),
    ]


async def _soak(server: Server) -> Seen:
    seen, start = Seen(), time.monotonic()

    async def visitor(number: int) -> None:
        await asyncio.sleep(MINUTE_S * 0.75 * number / VISITORS)
        while time.monotonic() - start < WHOLE_S:
            try:
                await Visit(server.url.removesuffix("/v1"), number + seen.visits).whole(STAY_S + number % 10)
                seen.visits += 1
            except (httpx.HTTPError, RuntimeError, TimeoutError) as fault:
                seen.faults[f"{type(fault).__name__}: {fault}"[:200]] += 1

    async def watch() -> None:
        while time.monotonic() - start < WHOLE_S:
            await asyncio.sleep(2)
            seen.memory.append((time.monotonic() - start, await asyncio.to_thread(server.memory)))

    tasks = [asyncio.create_task(visitor(number)) for number in range(VISITORS)]
    await watch()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seen


class Visit:
    """One session, as a browser has it: the page, a heartbeat, calls, and a stream of what they answer."""

    def __init__(self, address: str, number: int) -> None:
        self.number = number
        self.name = uuid4().hex[:10]
        self.http = httpx.AsyncClient(base_url=address, timeout=600, trust_env=False)
        self.config: dict[str, Any] = {}
        self.values: dict[int, Any] = {}

    async def whole(self, stay_s: float) -> None:
        """Come, see the page as it begins, ask, change the language, read for a while, go."""
        async with self.http:
            found = CONFIG.search((await self._done(self.http.get("/"))).text)
            assert found is not None
            self.config = json.loads(found[1])
            self.values = {part["id"]: part["props"].get("value") for part in self.config["components"]}
            beats = asyncio.create_task(self._heartbeat())
            try:
                await self._call(self._part("page"), "load")
                self.values |= {self._part("variants"): [VARIANT], self._part("set-max_new_tokens"): TOKENS}
                self.values |= {self._part("ask"): question(self.number), self._part("seed"): 7}
                await self._call(self._part("send"), "click")
                await self._call(self._part("madang-header"), "click", {"language": "ko"})
                await asyncio.sleep(stay_s)
            finally:
                beats.cancel()
                await asyncio.gather(beats, return_exceptions=True)

    def _part(self, name: str) -> int:
        """Return the number of the component of this id; the page itself has none."""
        parts = self.config["components"]
        found = [part["id"] for part in parts if part["props"].get("elem_id") == name]
        return int(found[0]) if found else int(self.config["layout"]["id"])

    async def _call(self, part: int, event: str, data: Any = None) -> None:
        calls = self.config["dependencies"]
        call = next(one for one in calls if [part, event] in one["targets"] or (event == "load" and _loads(one)))
        body = {"fn_index": call["id"], "session_hash": self.name, "trigger_id": part, "event_data": data}
        body["data"] = [self.values.get(one) for one in call["inputs"]]
        if call["queue"] is False:
            await self._done(self.http.post("/gradio_api/run/predict", json=body))
            return
        await self._done(self.http.post("/gradio_api/queue/join", json=body))
        async with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.name}) as stream:
            async for line in stream.aiter_lines():
                told = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if told.get("msg") == "process_completed" and not told["success"]:
                    raise RuntimeError(f"a call failed: {told['output']}")
                if told.get("msg") == "close_stream":
                    return
        raise RuntimeError("a stream of answers was cut off")

    async def _heartbeat(self) -> None:
        async with self.http.stream("GET", f"/gradio_api/heartbeat/{self.name}") as stream:
            async for _ in stream.aiter_lines():
                pass

    async def _done(self, asked: Any) -> httpx.Response:
        reply: httpx.Response = await asked
        return reply.raise_for_status()


def _loads(call: dict[str, Any]) -> bool:
    return any(event == "load" for _, event in call["targets"])
