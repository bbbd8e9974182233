from tests.e2e.conftest import *
from tests.e2e.test_broker_trouble import *


def test_dbg(broker, world, new_site):
    site = new_site(partitions=2)
    with DaemonThread(site) as daemon:
        with site.feeding(world.live, seconds=6):
            wait_until(lambda: daemon.metrics()["streamer_records_consumed_total"] > 200, "some records")
            with outage(broker):
                pass
        try:
            site.wait_until_done(within_s=12)
        finally:
            m = daemon.metrics()
            print(
                "CC",
                file=open("/tmp/dev/dbg.txt", "a"),
                *[
                    str(x)
                    for x in (
                        site.committed(),
                        site.ends(),
                        {
                            k: v
                            for k, v in m.items()
                            if ("records_" in k
                            and v)
                            or "pending" in k
                            or ("checkpoint" in k
                            and "bucket" not in k)
                            or "lag" in k
                            or "delivery" in k
                        },
                    )
                ],
            )
            print(
                "SINK",
                file=open("/tmp/dev/dbg.txt", "a"),
                *[
                    str(x)
                    for x in (
                        daemon.daemon._sinks.pending,
                        daemon.daemon._partitions,
                        daemon.daemon._sinks._producer._sent.__len__(),
                        [(x.topic, x.acknowledged, x.error) for x in list(daemon.daemon._sinks._producer._sent)[:3]],
                        len(daemon.daemon._sinks._producer._unsent),
                    )
                ],
            )
