"""The fast Kafka client: confluent-kafka, the extra `streamer[confluent]`.

It behaves as `kafka_python` does; one contract test holds both to it.
"""
