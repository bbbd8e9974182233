"""streamer: watches live time series in Kafka and tells people what is strange.

The street, one station a module:

    broker -> records -> frames -> windows -> scoring -> incidents -> sinks

`pipeline` joins the stations between bytes and alerts; `daemon` and the offline
commands (`retrain`, `backtest`, `replay`, `demo`) put it to work.
"""

__version__ = "0.1.0"
