"""A tab's clock: it goes on until the page has shown how its jobs ended."""

import gradio as gr

from playground.page.events import Updates, clocked


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
