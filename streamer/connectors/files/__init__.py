"""Data files as readings, for the offline commands: piece by piece, or whole.

    paths            a path -> its files, what kind each is, its bytes
    wanted           which columns and rows
    csv_tables       pieces of tables, only the columns wanted; so
    json_tables        do these
    parquet_tables
    dates            times that are text
    columns          columns of a table -> readings
    one_stream       whether a file without a stream column is one stream
    reading          all of it, for a list of paths
    data_set         readings as columns, and the order in which they were sent

Not inside: anything about Kafka, and what the readings are used for.
"""

from streamer.connectors.files.data_set import DataSet, join
from streamer.connectors.files.reading import load, pieces, size_of

__all__ = ["DataSet", "join", "load", "pieces", "size_of"]
