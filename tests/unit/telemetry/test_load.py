import psutil

from everbell.telemetry.load import SystemLoad


def test_the_first_reading_does_not_judge_the_start_itself():
    load = SystemLoad()
    assert load.cpu_percent() == 0.0
    assert 0.0 <= load.cpu_percent() <= 100.0


def test_memory_is_that_of_the_process():
    assert SystemLoad().rss_bytes() > 1_000_000


def test_a_reading_that_fails_repeats_the_last_one(monkeypatch):
    load = SystemLoad()
    before = load.rss_bytes()

    def refuse(*args, **kwargs):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(psutil.Process, "memory_info", refuse)
    monkeypatch.setattr(psutil, "cpu_percent", refuse)
    assert load.rss_bytes() == before
    assert load.cpu_percent() == 0.0
