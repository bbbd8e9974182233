"""From a trained network to a detector: the baseline of every stream, and the alert line.

Not inside: training (`learning`), the tables themselves (`baseline`), the line (`scoring.alert_line`).
"""

from __future__ import annotations

from models.detector import Detector
from models.fitting import baseline
from models.fitting.learning import Learned
from models.scoring.alert_line import AlertPolicy, fit_lines


def calibrate(learned: Learned, *, interval_s: float, policy: AlertPolicy | None = None) -> Detector:
    """The part of `fit` after training: what is normal for each stream, and the line.

    Args:
        learned: From `learn`.
        interval_s: Typical seconds between readings of a stream.
        policy: What the line is to allow; None is the default one.
    """
    policy = policy or AlertPolicy()
    architecture = learned.network.architecture
    most = baseline.most_windows(len(learned.streams), architecture)
    tables, evidence = baseline.fit(
        learned.network, learned.scaler, learned.readings, learned.seen.newest(most), learned.held_out.newest(most)
    )
    line, calibrated = fit_lines(evidence, policy, window=architecture.window, interval_s=interval_s)
    best = min(learned.reports, key=lambda report: report.held_out_loss)
    report = {
        "epochs": len(learned.reports),
        "best_epoch": best.epoch,
        "train_loss": best.train_loss,
        "held_out_loss": best.held_out_loss,
        **calibrated,
    }
    return Detector(
        network=learned.network,
        features=learned.features,
        context=learned.context,
        streams=learned.streams,
        scaler=learned.scaler,
        baseline=tables,
        line=line,
        interval_s=interval_s,
        report=report,
        policy=policy,
        calibration=evidence,
    )
