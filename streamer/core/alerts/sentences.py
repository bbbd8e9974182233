"""What the operator reads first: the event of an alert in one plain sentence.

Pure. Not inside: the figures (`building`), words for times (`words`).
"""

from __future__ import annotations

from collections.abc import Sequence

from streamer.core.alerts.message import Attribution, Rarity, Span
from streamer.core.alerts.words import duration, say, say_often, say_peak
from streamer.core.events import (
    ANOMALY,
    CORRECTED,
    CROSSED_BOOK,
    EXPIRED,
    LOCKED_BOOK,
    MOVED,
    OPEN,
    POWER_OF_TEN,
    PRICE_SPIKE,
    RECORDS_LOST,
    RESOLVE,
    SEQUENCE_GAP,
    SILENCE,
    STALE_QUOTE,
    STREAM,
    TOPIC,
    Event,
)


def summary(
    event: Event,
    stream: str,
    attributions: Sequence[Attribution] = (),
    filled: float = 0.0,
    *,
    span: Span | None = None,
    rarity: Rarity | None = None,
    in_training: bool | None = None,
) -> str:
    """Which stream, since when, how far above the line and how rare that is, which feature; arguments as of `build`."""
    lasted, since = duration(event.at_ns - event.onset_ns), say(event.onset_ns)
    if event.kind == SILENCE:
        return _silence(event, stream, lasted, since)
    if event.kind != ANOMALY:
        return _rule(event, stream, lasted, since)
    peak = say_peak(event.peak)
    if rarity is not None:
        peak += f", {say_often(rarity.seconds, at_least=rarity.at_least)}"
    if event.reason in _ENDED:
        return f"{stream} {_ENDED[event.reason]}; incident closed, anomalous since {since}, {peak}."
    if event.reason == CORRECTED:
        return f"{stream}: late readings have corrected the scores since {since}; incident withdrawn."
    if event.event == RESOLVE:
        part = (
            "" if span is None else f"; the anomalous readings themselves span {duration(round(span.length_s * 1e9))}"
        )
        return f"{stream} is back to normal after {lasted}{part}; {peak}."
    state = "has been anomalous" if event.event == OPEN else "is worsening; anomalous"
    text = f"{stream} {state} since {since}: {peak}"
    if attributions:
        top = attributions[0]
        text += f"; main feature {top.name} ({top.share:.0%}), observed {top.observed:g}, expected {top.expected:g}"
        if top.lower is not None and top.upper is not None:
            text += f" ({top.lower:.4g} to {top.upper:.4g})"
    if in_training is False:
        text += "; the stream was not in the training data"
    if filled:
        text += f" ({max(filled, 0.01):.0%} of the window's values were missing and filled in)"
    return text + "."


def _silence(event: Event, stream: str, lasted: str, since: str) -> str:
    details = event.details
    late = "late_s" in details or event.at_ns <= event.onset_ns  # how long it was silent, the reading does not say
    if event.scope == TOPIC:
        if event.reason == EXPIRED:
            return f"Nothing had come from topic {stream} since {since}; it is no longer read here, incident closed."
        if event.event == RESOLVE:
            return f"Records of topic {stream} are coming again after {lasted}."
        return f"Nothing has come from topic {stream} since {since} ({details['partitions']} partitions read)."
    if "pause_s" in details:
        pause = duration(int(float(details["pause_s"]) * 1e9))
        if event.event == RESOLVE:
            return f"{stream} is sending again after a pause of {pause} in market hours."
        return f"{stream} has sent nothing since {since} while the market was open, and nothing else has come either."
    if event.scope != STREAM:
        if event.reason in _ENDED:
            return f"The streams of {stream} that fell silent at {since} are no longer monitored; incident closed."
        if event.event == RESOLVE:
            return (
                f"Most of the {details['streams']} streams of {stream} that had fallen silent are sending again"
                f"{', with late readings' if late else f' after {lasted}'}; {details['missing']} are not."
            )
        if "silent_before" in details:
            return (
                f"{details['silent_before']} streams of {stream} are silent already, each by itself; "
                f"those that follow are this one incident, at {since} first: {details['names']}."
            )
        return (
            f"{details['streams']} of {details['active']} streams of {stream} fell silent together at {since}: "
            f"{details['names']}."
        )
    if event.reason == EXPIRED:
        return f"{stream} has sent nothing since {since} and is no longer monitored; incident closed."
    if event.reason in _ENDED:
        return f"{stream} {_ENDED[event.reason]}; incident closed, silent since {since}."
    if event.event == RESOLVE:
        if late:
            return f"{stream} is sending again, with late readings from {say(event.at_ns)} on."
        return f"{stream} is sending again after {lasted} of silence."
    return f"{stream} has been silent since {since} while other streams keep sending."


def _rule(event: Event, stream: str, lasted: str, since: str) -> str:
    """A fault that needs no model, and the figures that show it."""
    says = {name: f"{value:.10g}" if isinstance(value, float) else str(value) for name, value in event.details.items()}
    if event.reason in _ENDED:
        return f"{stream} {_ENDED[event.reason]}; {_RULE_NAMES[event.kind]} incident closed."
    if event.event == RESOLVE:
        over = "no further numbers are missing" if event.kind == SEQUENCE_GAP else f"{_RULE_NAMES[event.kind]} is over"
        return f"{stream}: {over} after {lasted}."
    if event.kind in (CROSSED_BOOK, LOCKED_BOOK):
        word, relation = ("crossed", "above") if event.kind == CROSSED_BOOK else ("locked", "equal to")
        return f"{stream}: the book has been {word} since {since}: bid {says['bid']} is {relation} ask {says['ask']}."
    if event.kind == POWER_OF_TEN:
        return (
            f"{stream}: {says['field']} {says['observed']} is {says['factor']} times its recent level "
            f"{says['level']}, since {since}: a slip of the decimal point?"
        )
    if event.kind == PRICE_SPIKE:
        away = f"{float(says['sigmas']):.1f} sigmas"
        return f"{stream}: price {says['observed']} at {since}, {away} from {says['expected']} before and after it."
    if event.kind == STALE_QUOTE:
        return f"{stream}: the quote has not changed since {since} while others of its partition move."
    return (
        f"{stream}: {says['missing']} sequence numbers are missing before {says['number']}; "
        f"wanted {says['wanted']} next, since {since}."
    )


# Why an incident is closed though nobody knows whether what was wrong is over.
_ENDED = {
    EXPIRED: "has stopped sending and is no longer monitored",
    MOVED: "comes in another partition since the topic has more of them",
    RECORDS_LOST: "has lost records before they were read",
}
_RULE_NAMES = {
    CROSSED_BOOK: "the crossed book",
    LOCKED_BOOK: "the locked book",
    POWER_OF_TEN: "the slip of the decimal point",
    STALE_QUOTE: "the stale quote",
    PRICE_SPIKE: "the price spike",
    SEQUENCE_GAP: "the sequence gap",
}
