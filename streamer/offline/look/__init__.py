"""Look at a topic or at files before anything is trained on them: `streamer inspect`, `init`, and the start of others.

sampling      messages from several places of a topic
recognising   their format, and plain documents
shapes        documents as flat rows, one for each reading
fields        what stands in each field
movement      how times and values move
choosing      which field is the stream, the time, the metric
named         whether fields that the user names are there
features      which numbers a model should see
looking       all of it: a sample -> a `Look`
"""
