"""A tab's clock: it goes on until the page has shown how its jobs ended."""

from collections.abc import Iterator

import gradio as gr

from playground.page.events import Updates, clocked, flowing


def test_a_job_that_ends_while_it_is_drawn_is_drawn_once_more() -> None:
    running = [True]
    with gr.Blocks():
        timer, shown = gr.Timer(active=False), gr.HTML()

    def draw() -> Updates:
        text = "running" if running[0] else "done"
        running[0] = False
        return {shown: text}

    def tick() -> Updates:
        return clocked(timer, lambda: running[0], draw)

    first, second = tick(), tick()
    assert (first[shown], first[timer].active) == ("running", True)
    assert (second[shown], second[timer].active) == ("done", False)


def test_the_last_of_many_updates_changes_nothing_also_where_there_is_no_other() -> None:
    with gr.Blocks():
        shown = gr.HTML()

    def some(number: int) -> Iterator[Updates]:
        for one in range(number):
            yield {shown: str(one)}

    assert list(flowing(some)(2)) == [{shown: "0"}, {shown: "1"}, gr.skip()]
    assert list(flowing(some)(0)) == [gr.skip()]
