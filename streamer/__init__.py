"""streamer: detects anomalies in live time series from Kafka and raises alerts.

    cli -> offline | runtime -> connectors | observability -> config -> formats -> core

`core.pipeline` is the processing pipeline, from readings to alerts; the daemon (`runtime`)
and the offline commands (`retrain`, `backtest`, `replay`, `demo`) run it.
docs/architecture.md has the whole picture.
"""

__version__ = "0.1.0"
