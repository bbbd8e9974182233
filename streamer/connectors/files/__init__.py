"""CSV and Parquet files as readings, for the offline commands: piece by piece, or whole.

    tables       a path -> its files -> pieces of tables, only the columns wanted
    reading      pieces of tables -> readings
    data_set     readings as columns, and the order in which their streams sent them

Not inside: anything about Kafka, and what the readings are used for.
"""

from streamer.connectors.files.data_set import DataSet, join
from streamer.connectors.files.reading import load, pieces, size_of

__all__ = ["DataSet", "join", "load", "pieces", "size_of"]
