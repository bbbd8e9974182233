"""Where a batch is to be cut so that late readings correct their stream before its next bar is scored.

Corrections are made at the end of a batch. A late reading is followed by a cut if something of its stream is released
later in the same batch; so the cut into polls makes no difference. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.event_time.lateness import Verdicts

Ints = NDArray[np.int64]


def cuts(verdicts: Verdicts, code: Ints, late: Ints) -> Ints:
    """Rows before which to cut, rising.

    Args:
        verdicts: On the whole batch.
        code: Stream of each reading, `(n,)`.
        late: Rows of late readings that may correct something, rising.
    """
    moved, rows = verdicts.moves()
    order = np.lexsort((rows, moved))
    moved, rows = moved[order], rows[order]
    n = len(code) + 1
    after = np.searchsorted(moved * n + rows, code[late] * n + late, side="right")
    found, newest = list[int](), 0
    in_reach = np.flatnonzero(after < len(rows))
    ends = rows[after[in_reach]]
    own = moved[after[in_reach]] == code[late[in_reach]]
    # The fewest cuts: each as late as the first release allows.
    for end, row in sorted(zip(ends[own].tolist(), late[in_reach][own].tolist(), strict=True)):
        if newest <= row:
            newest = end
            found.append(end)
    return np.array(found, np.int64)
