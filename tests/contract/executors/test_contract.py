import json
from types import SimpleNamespace

import pytest

from everbell.domain.job import CommandAction, HttpAction, ScriptAction
from everbell.testing.executor_contract import ExecutorContract

PRINT = 'echo "$EVERBELL_RUN_ID $EVERBELL_SLOT $EVERBELL_ATTEMPT $EVERBELL_TOKEN"'
HANG = "echo ready; exec sleep 60"


def told_by_process(sink):
    return dict(zip(("id", "slot", "attempt", "token"), sink.text().split(), strict=True))


class TestHttp(ExecutorContract):
    @pytest.fixture
    def rig(self, http, server):
        def told(sink):
            headers = server.seen[-1].headers
            names = {"id": "webhook-id", "slot": "everbell-slot"}
            names |= {"attempt": "everbell-attempt", "token": "everbell-token"}
            return {key: headers[name] for key, name in names.items()}

        return SimpleNamespace(
            executor=http,
            good=HttpAction(url=f"{server.url}/ok"),
            bad=HttpAction(url=f"{server.url}/fail"),
            hanging=HttpAction(url=f"{server.url}/hang"),
            impossible=HttpAction(url="http://169.254.169.254/latest/meta-data"),
            told=told,
        )


class TestBatch(ExecutorContract):
    @pytest.fixture
    def rig(self, http, server):
        def told(sink):
            run = json.loads(server.seen[-1].body)[0]["run"]
            return {key: str(run[key]) for key in ("id", "slot", "attempt", "token")}

        return SimpleNamespace(
            executor=http,
            good=HttpAction(url=f"{server.url}/ok", batch=True),
            bad=HttpAction(url=f"{server.url}/fail", batch=True),
            hanging=HttpAction(url=f"{server.url}/hang", batch=True),
            impossible=HttpAction(url="http://169.254.169.254/latest/meta-data", batch=True),
            told=told,
        )


class TestCommand(ExecutorContract):
    @pytest.fixture
    def rig(self, command):
        return SimpleNamespace(
            executor=command,
            good=CommandAction(argv=("sh", "-c", PRINT)),
            bad=CommandAction(argv=("sh", "-c", "exit 3")),
            hanging=CommandAction(argv=("sh", "-c", HANG)),
            impossible=CommandAction(argv=("no-such-program-here",)),
            told=told_by_process,
        )


class TestScript(ExecutorContract):
    @pytest.fixture
    def rig(self, script):
        return SimpleNamespace(
            executor=script,
            good=ScriptAction(text=PRINT),
            bad=ScriptAction(text="exit 3"),
            hanging=ScriptAction(text=HANG),
            impossible=ScriptAction(text="x", interpreter="bsh"),
            told=told_by_process,
        )
