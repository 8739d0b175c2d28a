import pytest
import torch

from xkd.pipelines.loading.loans import Loans


def test_nothing_is_kept_on_the_cpu():
    loans = Loans()
    loans.keep({"video_global": torch.zeros(3)})
    assert len(loans) == 0
    loans.close()


@pytest.mark.gpu
def test_memory_is_kept_until_what_was_queued_before_is_done():
    loans, outputs = Loans(), {"video_global": torch.zeros(3, device="cuda")}
    torch.cuda._sleep(10**9)  # cycles: about half a second
    loans.keep(outputs)
    loans.keep({})
    assert len(loans) == 1
    torch.cuda.synchronize()
    loans.keep({})
    assert len(loans) == 0


@pytest.mark.gpu
def test_closing_waits_for_the_work():
    loans, outputs = Loans(), {"video_global": torch.zeros(3, device="cuda")}
    torch.cuda._sleep(10**9)
    done = torch.cuda.Event()
    loans.keep(outputs)
    done.record()
    loans.close()
    done.synchronize()
    assert len(loans) == 0
