"""`streamer backtest`: files through the very stations the daemon uses; scores, alerts, a report.

running          a data set -> scores and alerts
evaluation       alerts and labels -> incidents, what was caught, what was false
embeddings       where each window lies among all others, and what is near an incident
reconstruction   what the model expects of each reading; `denoised` writes it
plots, report    the page
results          all of it, into files
"""

from streamer.offline.backtest.results import Findings, carry_out, find, summary, write
from streamer.offline.backtest.running import Backtest, run

__all__ = ["Backtest", "Findings", "carry_out", "find", "run", "summary", "write"]
