import pytest

from everbell.testing.queue_rigs import MemoryRig, RedisRig


@pytest.fixture
def redis(redis_server):
    """The shared server, empty."""
    redis_server.flush()
    return redis_server


@pytest.fixture(params=["memory", "redis"])
async def rig(request):
    """Processes on one broker of each kind."""
    rig = MemoryRig()
    if request.param == "redis":
        rig = RedisRig(request.getfixturevalue("redis"))
    yield rig
    await rig.close()
