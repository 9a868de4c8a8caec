import pytest

from everbell.cli.main import run


class Cli:
    """The command line in this process: exit code and both streams."""

    def __init__(self, capsys):
        self.capsys = capsys
        self.out = self.err = ""

    def __call__(self, *args):
        code = run(list(args))
        self.out, self.err = self.capsys.readouterr()
        assert "Traceback" not in self.err
        return code


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    for name in ("SERVER", "API_KEY", "API_SECRET", "CONFIG", "PROJECT"):
        monkeypatch.delenv(f"EVERBELL_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return Cli(capsys)
