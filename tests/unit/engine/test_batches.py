"""A large backlog is decided in batches: a thousand due jobs in a pass, none forgotten."""

from everbell.domain.job import Definition
from everbell.domain.run import FINAL
from everbell.ports.store import RunFilter
from everbell.services import jobs
from everbell.services.context import LOCAL
from everbell.services.validate import Draft
from everbell.testing.engine_bench import passes
from everbell.testing.small_cluster import WORK, Small, story

MANY = 1_500


def test_a_thousand_due_jobs_are_decided_in_one_pass_and_all_in_the_end():
    async def tell(small: Small) -> None:
        firing = small.boot().engine.firing
        passed: list[int] = []
        tally = firing.tally

        def counted(decisions):
            passed.append(len(decisions))
            tally(decisions)

        firing.tally = counted
        drafts = [
            Draft(definition=Definition(name=f"job {n}", action=WORK, schedule="@every 1h"))
            for n in range(MANY)
        ]
        for first in range(0, MANY, 500):
            await jobs.create(small.services, LOCAL, drafts[first : first + 500])
        await passes(3610)
        assert [size for size in passed if size] == [1000, 500]
        found = await small.store.list_runs(RunFilter(project_ids=(1,)), 2 * MANY)
        assert len({run.key.job_id for run in found}) == len(found) == MANY
        assert all(run.state in FINAL for run in found)

    story(tell, nodes=0)
