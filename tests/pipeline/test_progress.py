"""Bars on a terminal, rare lines elsewhere."""

import io
import threading
import time

import pytest

from pipeline.progress import Progress


class Screen(io.StringIO):
    """A stream that is a terminal or not."""

    def __init__(self, *, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


def run(steps, *, terminal):
    """Show steps of (seconds since the last, phase, done, total) and return what is written."""
    screen, clock = Screen(terminal=terminal), Clock()
    with Progress(screen, clock=clock) as progress:
        for wait, phase, done, total in steps:
            clock.now += wait
            progress(phase, done, total)
    return screen.getvalue()


def test_a_bar_shows_phase_share_pace_and_time_left():
    """One line says all there is to say."""
    bar = run([(0, "embedding", 0, 1000), (10, "embedding", 250, 1000)], terminal=True).split("\r")[-1]
    assert bar.startswith("embedding  25% of 1,000, 25/s, 30 s left [")
    assert bar.count("#") * 3 == pytest.approx(bar.count("."), abs=2)


def test_a_bar_fits_eighty_columns_whatever_it_says():
    """A wrapped line cannot be drawn over."""
    steps = [(0, "a phase with quite a long name", 0, 10**15), (1e5, "a phase with quite a long name", 10**9, 10**15)]
    for line in run(steps, terminal=True).split("\r"):
        assert len(line.rstrip("\n")) < 80
    long = run([(0, "phase " * 30, 1, 2)], terminal=True)
    assert len(long.strip("\r\n")) < 80


def test_a_bar_is_drawn_at_most_ten_times_a_second_and_at_the_end():
    """Drawing costs less than what it shows."""
    steps = [(0.001, "embedding", done, 5000) for done in range(5001)]
    drawn = run(steps, terminal=True).split("\r")[1:]
    assert 45 <= len(drawn) <= 52
    assert drawn[-1].startswith("embedding 100%")


def test_each_phase_keeps_its_own_line():
    """A finished bar stays to be read."""
    text = run([(0, "one", 5, 5), (1, "two", 1, 2)], terminal=True)
    assert [line.split("\r")[-1].split()[0] for line in text.rstrip("\n").split("\n")] == ["one", "two"]
    assert text.endswith("\n")


def test_a_log_gets_a_line_at_most_every_thirty_seconds():
    """A log file is not filled with bars."""
    lines = run([(1, "training", done, 200) for done in range(95)], terminal=False).splitlines()
    assert lines == [
        "training  15% of 200, 1.0/s, 2 min 50 s left",
        "training  30% of 200, 1.0/s, 2 min 20 s left",
        "training  45% of 200, 1.0/s, 1 min 50 s left",
    ]


def test_a_short_run_leaves_nothing_in_a_log():
    """What is over before anyone looks is not told."""
    assert run([(1, "training", done, 20) for done in range(21)], terminal=False) == ""


def test_work_done_before_does_not_count_as_pace():
    """A run that goes on at 90 % is not ten times as fast."""
    bar = run([(0, "training", 900, 1000), (10, "training", 910, 1000)], terminal=True).split("\r")[-1]
    assert bar.startswith("training  91% of 1,000, 1.0/s, 1 min 30 s left")


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_to_do_is_all_done(terminal):
    """A total of 0 is no division."""
    assert ("100%" in run([(0, "embedding", 0, 0), (60, "embedding", 0, 0)], terminal=terminal)) is True


def test_hours_are_told_as_hours():
    """Long runs are not told in seconds."""
    bar = run([(0, "training", 0, 10_000), (60, "training", 60, 10_000)], terminal=True).split("\r")[-1]
    assert "2 h 45 min left" in bar


def test_one_long_step_tells_how_long_it_takes():
    """Compiling has no share, but it is no hang."""
    lines = run([(0, "compiling", 0, 1), (75, "compiling", 1, 1)], terminal=True).split("\r")[1:]
    assert [line.strip() for line in lines] == ["compiling, 0 s so far", "compiling, 1 min 15 s"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stage_that_is_silent_is_seen_to_go_on(terminal):
    """Its own clock shows the time while a step holds the stage up: each second, in a log each half minute."""
    screen, clock = Screen(terminal=terminal), Clock()
    progress = Progress(screen, clock=clock)
    progress("compiling", 0, 1)
    for _ in range(65):
        clock.now += 1
        progress.tick()
    seen = [line for line in screen.getvalue().replace("\r", "\n").split("\n") if line]
    assert len(seen) == (66 if terminal else 2)
    assert seen[-1].strip() == ("compiling, 1 min 05 s so far" if terminal else "compiling, 1 min 00 s so far")


def test_the_clock_ticks_while_the_stage_is_at_work():
    """From the first phase until the end, from a thread that does not outlive it."""
    screen = Screen(terminal=True)
    with Progress(screen) as progress:
        progress("loading", 0, 1)
        waited = 0.0
        while screen.getvalue().count("loading") < 2 and waited < 20:
            time.sleep(0.05)
            waited += 0.05
    assert screen.getvalue().count("loading, 1 s so far") >= 1
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_a_finished_phase_is_not_ticked_on():
    """What is done stays as it was."""
    screen, clock = Screen(terminal=True), Clock()
    progress = Progress(screen, clock=clock)
    progress("embedding", 5, 5)
    before = screen.getvalue()
    clock.now += 100
    progress.tick()
    assert screen.getvalue() == before


def test_a_step_that_another_phase_follows_is_over():
    """It leaves its line behind with the time that it took."""
    text = run([(0, "reading", 0, 1), (3, "embedding", 1, 2)], terminal=True)
    assert text.split("\n")[0].split("\r")[-1].strip() == "reading, 3 s"
