"""Autoencoders over windows of readings: build, train, calibrate, save, load, score.

Knows arrays and tensors. Has never heard of Kafka, Prometheus or `streamer`.

    scaling     raw units -> model units, per stream
    autoencoder windows -> rebuilt windows
    training    fits the autoencoder, with early stopping on a held-out tail
    scores      rebuilt windows -> errors pooled over several time scales
    calibration held-out errors -> the alert line of an alert budget
    detector    all of the above, ready to score
    bundle      one versioned directory that holds a detector
    registry    the directory of bundles and which of them is current
"""
