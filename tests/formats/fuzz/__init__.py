"""Every decoder of what comes from outside, fed with what nobody meant to send.

    python -m tests.formats.fuzz --inputs 1000000 --seed 0

    mutations   valid messages bent in their structure, and in their bytes
    messages    formats of the input topic, in many layouts
    schemas     Avro and Protobuf messages by schemas of a registry
    states      snapshots, and the notes of commits that name them
    stored      manifests of bundles and what is current; the headers of dead letters
    running     all of them, counted

An input is accepted or refused; nothing else may happen. The same seed gives the same inputs.
"""
