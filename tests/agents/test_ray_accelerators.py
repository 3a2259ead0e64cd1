"""An actor for each accelerator of a Ray cluster, which tells them apart; the accelerators are numbers that Ray is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.errors import MachineError


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_actor_has_an_accelerator_of_its_own_and_more_than_there_are_is_refused(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from agents.serving.ray_pool import accelerator_pool

    ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(MachineError, match="the Ray cluster has 2, 2 of them free"):
            accelerator_pool(tmp_path, count=3)
        with accelerator_pool(tmp_path) as pool:
            assert pool.num_slots == 2
            places = {ray.get(member._actor.place.remote()) for member in pool._members}  # type: ignore[attr-defined]
            assert places == {"accelerator 0", "accelerator 1"}
            with pytest.raises(MachineError, match="0 of them free"):
                accelerator_pool(tmp_path, count=1)
    finally:
        ray.shutdown()
