"""The default Kafka client: kafka-python 2.3.

Behaviour of kafka-python 2.3.3 that shapes these modules: a listener's exceptions are
logged and swallowed; `close()` does not call the listener; after an error inside a
batch of records the next `poll` never returns; frames above 1 MB are refused unless
told otherwise; a group request must be allowed to last longer than a session.
"""
